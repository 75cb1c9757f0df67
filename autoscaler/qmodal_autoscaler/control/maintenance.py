"""What the leader does for pools beyond their size: promote retries, end inputs, let pools go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from qmodal.client.client import Client
from qmodal.store.apps import AppRecord
from qmodal.store.observing import Observation
from qmodal.transport.gather import all_of, gather
from qmodal.transport.operation import Op
from qmodal_autoscaler.change_log import ChangeLog
from qmodal_autoscaler.cluster.catalog import Terms
from qmodal_autoscaler.control.workqueue import WorkQueue
from qmodal_autoscaler.policy.decide import serves_alone
from qmodal_autoscaler.policy.state import Decision, PoolSnapshot


class Maintenance:
    """Collects what a round finds to do; a purge runs on beside the rounds, in `group`."""

    def __init__(self, client: Client, due: WorkQueue, journal: ChangeLog) -> None:
        self._client = client
        self._due = due
        self._journal = journal
        self._promoting: set[str] = set()
        self._leaving: set[str] = set()
        self._purging: set[str] = set()
        self._served: dict[str, bool] = {}
        self.group: asyncio.TaskGroup | None = None

    def tend(
        self, observation: Observation, terms: Terms, snapshot: PoolSnapshot, decision: Decision
    ) -> None:
        """Find what there is to do about a pool."""
        if observation.delayed:
            self._promoting.add(observation.pool)
        is_served = serves_alone(snapshot, decision, terms.settings)
        if is_served != observation.is_served:
            self._served[observation.pool] = is_served
        is_empty = not (observation.inflight or observation.consumers or snapshot.containers)
        if is_empty and not decision.start and not terms.settings.min_containers:
            self.leave(observation.pool)

    def leave(self, pool: str) -> None:
        """Make the pool inactive, unless something is in it."""
        self._leaving.add(pool)

    def purge(self, pool: str, terms: Terms, reason: str, *, current: int) -> None:
        """End what waits in the pool, and tell its callers the reason; takes as long as it takes.

        It is over when another version of the app than `current` is: that one may be able to run it.
        """
        if pool not in self._purging and self.group is not None:
            self._purging.add(pool)
            purging = self._purge(pool, terms, reason, current)
            self.group.create_task(purging, name=f"purge {pool}")

    def say(self) -> Op[None]:
        """Say which pools serve a lone input; before a container is told to end."""
        served, self._served = self._served, {}
        if served:
            serve = self._client.observing.serve
            yield from self._each(
                {pool: serve(pool, is_served=value) for pool, value in served.items()}
            )

    def do(self) -> Op[None]:
        """Do what was collected, except for purges."""
        promoting, self._promoting = self._promoting, set()
        leaving, self._leaving = self._leaving, set()
        leave = self._client.pools.leave
        promotions: dict[str, Op[Any]] = {pool: self._promote(pool) for pool in promoting}
        yield from self._each(promotions | {pool: leave(pool) for pool in leaving - promoting})

    def _each(self, ops: Mapping[str, Op[Any]]) -> Op[None]:
        """Do that in each pool; what fails in one is said, and tried again with its next look."""
        for pool, result in zip(ops, (yield from gather(ops.values())), strict=True):
            if isinstance(result, Exception):
                self._journal.failed(pool, "it cannot be tended", result, label=f"pool {pool}")

    def _promote(self, pool: str) -> Op[None]:
        _, seconds = yield from self._client.pools.promote(pool)
        if seconds is not None:
            self._due.sooner(pool, time.monotonic() + seconds)

    async def _purge(self, pool: str, terms: Terms, reason: str, current: int) -> None:
        label = terms.label
        purging = self._client.pools.purge(
            pool, reason=reason, is_due=lambda: self._is_current(terms.app, current)
        )
        try:
            with self._journal.surviving(pool, "its inputs cannot be ended", label=label):
                count = await self._client.aio(purging)
                first_line = reason.partition("\n")[0]
                self._journal.change(label, f"{count} inputs ended: {first_line}")
                self._due.wake(pool)
        finally:
            self._purging.discard(pool)

    def _is_current(self, app: str, number: int) -> Op[bool]:
        record = yield from self._client.apps.record(app)
        return (0 if record is None else record.version) == number


PROLONG_SECONDS = 60.0


class DetachedApps:
    """Looks at the detached apps that have active pools, once in each full round.

    An app that has none has no containers either, and its record expires by itself.
    """

    def __init__(self, client: Client, journal: ChangeLog) -> None:
        self._client = client
        self._journal = journal
        self._alone: set[str] = set()
        self._prolonged: dict[str, float] = {}

    def tend(
        self, apps: Mapping[str, AppRecord], observations: Mapping[str, Observation]
    ) -> Op[None]:
        """End those that were alone before the observations were made, and have nothing to do."""
        detached = {app: record for app, record in apps.items() if record.state == "detached"}
        busy = {each.app for each in observations.values() if each.inflight}
        self._prolonged = {app: at for app, at in self._prolonged.items() if app in detached}
        for app, record in detached.items():
            if app in busy:
                yield from self._prolong(record)
            elif app in self._alone:
                self._journal.change(record.name, f"{app} has done its work and ends")
                with self._journal.surviving(app, "it cannot be stopped", settles=True):
                    yield from self._client.apps.stop(record)
        self._alone &= detached.keys()
        asked = [app for app in detached if app not in self._alone]
        if not asked:
            return
        there = yield from all_of(*(self._client.apps.has_client(app) for app in asked))
        gone = {app for app, is_there in zip(asked, there, strict=True) if not is_there}
        self._alone |= gone

    def _prolong(self, record: AppRecord) -> Op[None]:
        now = time.monotonic()
        if now - self._prolonged.get(record.app_id, 0.0) > PROLONG_SECONDS:
            self._prolonged[record.app_id] = now
            yield from self._client.apps.prolong(record.app_id, record.version)
