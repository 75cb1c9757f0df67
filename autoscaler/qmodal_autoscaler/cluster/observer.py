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
# Pools without containers that each look at everything includes, in turns: most of them wait for room, and are looked at
# when there is some. Hints that say more of them may be lost.
LOOKED_AT_IN_TURNS = 200
# Pools that are looked at only because a second is over are looked at so many at a time, in the course of the next one: a hint
# that comes meanwhile waits for one such look, and not for one at all pools.
LOOKED_AT_TOGETHER = 32


@dataclass(frozen=True, slots=True)
class DuePools:
    """The pools to look at now; `everything`: the boxes and what has changed meanwhile, too (`Observer.look`).

    `is_news`: somebody has said that something has changed, perhaps an app with many pools. `routine`: further pools, of
    which nobody has said anything; they were left for later by a look at everything.
    """

    pools: frozenset[str]
    everything: bool
    is_news: bool = False
    routine: frozenset[str] = frozenset()


@dataclass(slots=True)
class ClusterSnapshot:
    """The pools that were looked at, and an observation of each that could be observed.

    After a look at everything, `known`: the pools that are active or have containers, and `later`: those of them
    that are to be looked at in the course of the next second.
    """

    pools: list[str]
    observations: dict[str, Observation] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    later: tuple[str, ...] = ()


class Observer:
    """Reads from the server what is due, and keeps `nodes` and `catalog` up to date."""

    def __init__(self, client: Client, change_log: ChangeLog) -> None:
        self._client = client
        self._change_log = change_log
        self.nodes = Nodes(client.fleet, client.boxes)
        self.catalog = Catalog(client)
        # Subjects, in the change log, of reads that have failed since the last look at everything, and before that.
        self._unreadable: set[str] = set()
        self._unreadable_before: set[str] = set()
        self._clock_ms = 0.0  # the server's clock less the monotonic one
        self._known: frozenset[str] = frozenset()
        self._turn = 0

    @property
    def server_ms(self) -> float:
        """The server's clock now, in milliseconds."""
        return self._clock_ms + time.monotonic() * 1000

    def look(self, due: DuePools) -> Op[ClusterSnapshot]:
        """Look at the pools that are due; raises Error if not even the list of pools can be had."""
        if due.everything:
            if due.is_news:
                yield from self._all(self.catalog.read_all_apps())
            return (yield from self._look_at_all(due))
        # What boxes report is read once a second, and when they say that it has changed.
        boxes = self.nodes.read_boxes_of(due.pools)
        return (yield from self._look_at(sorted(due.pools | due.routine), boxes))

    def look_again(self, pools: list[str]) -> Op[ClusterSnapshot]:
        """Look at the pools only, and not at the boxes."""
        return (yield from self._look_at(pools, []))

    def _look_at_all(self, due: DuePools) -> Op[ClusterSnapshot]:
        """Look at all boxes, the pools that are due, new, or have containers, and some of the others.

        If there are few others, at all of them. Without news, many of those that are neither due nor new are left for later.
        """
        active, leases, clock = yield from all_of(
            self._client.observing.active(), self._client.fleet.workers(), ask_one(b"TIME")
        )
        seconds, micros = clock
        self._clock_ms = int(seconds) * 1000 + int(micros) / 1000 - time.monotonic() * 1000
        self._settle_readable()
        boxes = self.nodes.survey(leases)
        now = {*due.pools, *due.routine, *self.catalog.take_changed()}
        now.update(pool for pool in active if pool not in self._known)
        needed = self.nodes.pools() | now
        others = [pool for pool in active if pool not in needed]
        rest = sorted({*needed, *self._next_of(others)} - now)
        if due.is_news or len(rest) <= LOOKED_AT_TOGETHER:
            now, rest = now.union(rest), []
        seen = yield from self._look_at(sorted(now), boxes)
        # Boxes that were read for the first time may have containers of pools that are not active.
        strangers = sorted(self.nodes.pools().difference(seen.pools, rest))
        more = yield from self._look_at(strangers, [])
        self._known = frozenset((*active, *seen.pools, *strangers, *rest))
        self.catalog.keep(self._known)
        self._change_log.keep(self._known)
        observations = seen.observations | more.observations
        return ClusterSnapshot(seen.pools + strangers, observations, self._known, tuple(rest))

    def _settle_readable(self) -> None:
        """What could not be read in the second before the last one, and could be in the last one, is no trouble any more."""
        for over in self._unreadable_before - self._unreadable:
            self._change_log.settle(over)
        self._unreadable_before, self._unreadable = self._unreadable, set()

    def _next_of(self, others: list[str]) -> list[str]:
        """Those of the pools whose turn it is to be looked at."""
        if len(others) <= LOOKED_AT_IN_TURNS:
            return others
        start = self._turn % len(others)
        self._turn = start + LOOKED_AT_IN_TURNS
        return (others[start:] + others[:start])[:LOOKED_AT_IN_TURNS]

    def _look_at(self, pools: list[str], boxes: list[Op[None]]) -> Op[ClusterSnapshot]:
        catalog, seen = self.catalog, ClusterSnapshot(pools)
        apps = catalog.apps_of(pools)
        look = self._observe(pools, seen)
        yield from self._all([look, *boxes, *catalog.read_specs(pools), *catalog.read_apps(apps)])
        later = catalog.apps_of(pools) - apps
        yield from self._all(catalog.read_apps(later))
        yield from self._all(catalog.read_versions(apps | later))
        if boxes:
            self.nodes.arrange()
        return seen

    def _observe(self, pools: list[str], seen: ClusterSnapshot) -> Op[None]:
        for observation in (yield from self._client.observing.observe(pools)):
            if observation is not None:
                seen.observations[observation.pool] = observation

    def _all(self, ops: Iterable[Op[None]]) -> Op[None]:
        for result in (yield from gather(ops)):
            if isinstance(result, Exception):
                # Each error is a subject of its own: two that take turns would be logged again and again.
                subject = f"{LOOK}: {result!r}"
                self._unreadable.add(subject)
                self._change_log.failed(subject, "something cannot be read", result, label=LOOK)
