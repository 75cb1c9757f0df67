"""Reads the active pools, their apps and the boxes from the server, in as few round trips as it takes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from qmodal.client.client import Client
from qmodal.store.watch.observing import Observation
from qmodal.transport.operation import Op, ask_one
from qmodal.transport.sharing.gather import all_of, gather
from qmodal_autoscaler.change_log import ChangeLog
from qmodal_autoscaler.cluster.catalog import Catalog
from qmodal_autoscaler.cluster.nodes import Nodes

LOOK = "the look at the server"


@dataclass(frozen=True, slots=True)
class DuePools:
    """The pools to look at now; `everything`: all active ones, not only `pools`."""

    pools: frozenset[str]
    everything: bool


@dataclass(slots=True)
class ClusterSnapshot:
    """The pools that were looked at, and an observation of each that could be observed."""

    pools: list[str]
    observations: dict[str, Observation] = field(default_factory=dict)


class Observer:
    """Reads from the server what is due, and keeps `nodes` and `catalog` up to date."""

    def __init__(self, client: Client, change_log: ChangeLog) -> None:
        self._client = client
        self._change_log = change_log
        self.nodes = Nodes(client.fleet)
        self.catalog = Catalog(client)
        # Subjects, in the change log, of reads that have failed in the last full look.
        self._unreadable: set[str] = set()
        self._clock_ms = 0.0  # the server's clock less the monotonic one

    @property
    def server_ms(self) -> float:
        """The server's clock now, in milliseconds."""
        return self._clock_ms + time.monotonic() * 1000

    def look(self, due: DuePools) -> Op[ClusterSnapshot]:
        """Look at the pools that are due; raises Error if not even the list of pools can be had."""
        if due.everything:
            return (yield from self._look_at_all())
        boxes = self.nodes.read_boxes_of(due.pools)
        return (yield from self._look_at(sorted(due.pools), boxes))

    def _look_at_all(self) -> Op[ClusterSnapshot]:
        active, leases, clock = yield from all_of(
            self._client.observing.active(), self._client.fleet.workers(), ask_one(b"TIME")
        )
        seconds, micros = clock
        self._clock_ms = int(seconds) * 1000 + int(micros) / 1000 - time.monotonic() * 1000
        before, self._unreadable = self._unreadable, set()
        boxes = self.nodes.survey(leases)
        pools = sorted({*active, *self.nodes.pools()})
        seen = yield from self._look_at(pools, boxes)
        # Boxes that were read for the first time may have containers of pools that are not active.
        strangers = sorted(self.nodes.pools() - set(pools))
        more = yield from self._look_at(strangers, [])
        self.catalog.keep({*pools, *strangers})
        self._change_log.keep({*pools, *strangers})
        for over in before - self._unreadable:
            self._change_log.settle(over)
        return ClusterSnapshot(pools + strangers, seen.observations | more.observations)

    def _look_at(self, pools: list[str], boxes: list[Op[None]]) -> Op[ClusterSnapshot]:
        catalog, seen = self.catalog, ClusterSnapshot(pools)
        apps = catalog.apps_of(pools)
        looks = [self._observe(pool, seen) for pool in pools]
        yield from self._all([*looks, *boxes, *catalog.read_specs(pools), *catalog.read_apps(apps)])
        later = catalog.apps_of(pools) - apps
        yield from self._all(catalog.read_apps(later))
        yield from self._all(catalog.read_versions(apps | later))
        self.nodes.arrange()
        return seen

    def _observe(self, pool: str, seen: ClusterSnapshot) -> Op[None]:
        (observation,) = yield from self._client.observing.observe([pool])
        if observation is not None:
            seen.observations[pool] = observation

    def _all(self, ops: Iterable[Op[None]]) -> Op[None]:
        for result in (yield from gather(ops)):
            if isinstance(result, Exception):
                # Each error is a subject of its own: two that take turns would be logged again and again.
                subject = f"{LOOK}: {result!r}"
                self._unreadable.add(subject)
                self._change_log.failed(subject, "something cannot be read", result, label=LOOK)
