"""The leader's work beside scaling: promotes retries, ends inputs, puts empty pools and apps away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import Any

from qmodal.client.client import Client
from qmodal.store.apps import AppRecord
from qmodal.store.history.accounts import Accounts
from qmodal.store.watch.observing import Observation
from qmodal.telemetry.events import INPUTS_ENDED, emit
from qmodal.transport.operation import Op
from qmodal.transport.sharing.gather import all_of, gather
from qmodal.wire.ids import shard_of
from qmodal_autoscaler.change_log import ChangeLog
from qmodal_autoscaler.control.judgement import Judgement, Purge
from qmodal_autoscaler.control.workqueue import WorkQueue

# The record of a busy detached app is given its full lifetime again this often.
PROLONG_SECONDS = 60.0


class Maintenance:
    """Collects what a round finds to do and carries it out; purges run on in tasks of `group`."""

    def __init__(self, client: Client, queue: WorkQueue, change_log: ChangeLog) -> None:
        self._client = client
        self._queue = queue
        self._change_log = change_log
        self._promoting: set[str] = set()
        self._leaving: set[str] = set()
        self._stopped: dict[str, str] = {}
        self._purging: set[str] = set()
        self._served: dict[str, bool] = {}
        self._accounts = Accounts(client.keys)
        self.group: asyncio.TaskGroup | None = None

    def add(self, judgement: Judgement) -> None:
        """Collect what follows from a look at one pool; a purge begins at once."""
        pool, purge = judgement.pool, judgement.purge
        if judgement.promotes:
            self._promoting.add(pool)
        if judgement.serves_alone is not None:
            self._served[pool] = judgement.serves_alone
        if judgement.is_leaving:
            self._leaving.add(pool)
            if judgement.stopped_app:
                self._stopped[pool] = judgement.stopped_app
        if purge is not None:
            self.purge(pool, purge)

    def purge(self, pool: str, purge: Purge) -> None:
        """End the inputs that wait in the pool, with the reason for their callers; runs beside the rounds."""
        if pool not in self._purging and self.group is not None:
            self._purging.add(pool)
            self.group.create_task(self._purge(pool, purge), name=f"purge {pool}")

    def announce_served(self) -> Op[None]:
        """Tell the server which pools serve a lone input; must precede what ends a container."""
        served, self._served = self._served, {}
        if served:
            serve = self._client.observing.serve
            yield from self._each(
                {pool: serve(pool, is_served=value) for pool, value in served.items()}
            )

    def carry_out(self) -> Op[None]:
        """Promote retries and put empty pools away, as collected."""
        promoting, self._promoting = self._promoting, set()
        leaving, self._leaving = self._leaving, set()
        stopped, self._stopped = self._stopped, {}
        promotions: dict[str, Op[Any]] = {pool: self._promote(pool) for pool in promoting}
        leaves = {pool: self._leave(pool, stopped.get(pool, "")) for pool in leaving - promoting}
        yield from self._each(promotions | leaves)

    def _each(self, ops: Mapping[str, Op[Any]]) -> Op[None]:
        """Run each pool's operation; one that fails is logged, and made again at the pool's next look."""
        for pool, result in zip(ops, (yield from gather(ops.values())), strict=True):
            if isinstance(result, Exception):
                self._change_log.failed(pool, "it cannot be tended", result, label=f"pool {pool}")

    def _leave(self, pool: str, stopped_app: str) -> Op[None]:
        yield from self._client.pools.leave(pool)
        if stopped_app:
            yield from self._client.kept_arguments.drop(stopped_app, shard_of(pool))

    def _promote(self, pool: str) -> Op[None]:
        _, seconds = yield from self._client.pools.promote(pool)
        if seconds is not None:
            self._queue.plan_no_later(pool, time.monotonic() + seconds)

    async def _purge(self, pool: str, purge: Purge) -> None:
        label, reason = purge.terms.label, purge.reason
        purging = self._client.pools.purge(
            pool,
            reason=reason,
            is_due=lambda: self._is_current(purge.terms.app, purge.current),
        )
        try:
            with self._change_log.surviving(pool, "its inputs cannot be ended", label=label):
                count = await self._client.aio(purging)
                app, function = purge.terms.app, purge.terms.function
                first_line = reason.partition("\n")[0]
                emit(
                    INPUTS_ENDED,
                    label=label,
                    count=count,
                    reason=first_line,
                    app=app,
                    function=function,
                    pool=pool,
                )
                await self._client.aio(self._accounts.add(app, function, {"purged": count}))
                self._queue.look(pool)
        finally:
            self._purging.discard(pool)

    def _is_current(self, app: str, number: int) -> Op[bool]:
        record = yield from self._client.apps.record(app)
        return (0 if record is None else record.version) == number


class DetachedApps:
    """Stops detached apps whose client is gone and that have nothing to do.

    Looks only at apps with active pools: one without has no containers either, and its record expires by
    itself.
    """

    def __init__(self, client: Client, change_log: ChangeLog) -> None:
        self._client = client
        self._change_log = change_log
        self._clientless: set[str] = set()
        self._prolonged: dict[str, float] = {}

    def tend(
        self,
        apps: Mapping[str, AppRecord],
        observations: Mapping[str, Observation],
        unseen: Collection[str] = (),
    ) -> Op[None]:
        """Stop the apps that had no client before the observations were made, and have no inputs.

        Some observations of the `unseen` apps are older than that.
        """
        detached = {app: record for app, record in apps.items() if record.state == "detached"}
        busy = {each.app for each in observations.values() if each.inflight}
        self._prolonged = {app: at for app, at in self._prolonged.items() if app in detached}
        for app, record in detached.items():
            if app in busy:
                yield from self._prolong(record)
            elif app in self._clientless and app not in unseen:
                self._change_log.change(record.name, f"{app} has done its work and ends")
                with self._change_log.surviving(app, "it cannot be stopped", settles=True):
                    yield from self._client.apps.stop(record)
        self._clientless &= detached.keys()
        asked = [app for app in detached if app not in self._clientless]
        if not asked:
            return
        there = yield from all_of(*(self._client.apps.has_client(app) for app in asked))
        gone = {app for app, is_there in zip(asked, there, strict=True) if not is_there}
        self._clientless |= gone

    def _prolong(self, record: AppRecord) -> Op[None]:
        now = time.monotonic()
        if now - self._prolonged.get(record.app_id, 0.0) > PROLONG_SECONDS:
            self._prolonged[record.app_id] = now
            yield from self._client.apps.prolong(record.app_id, record.version)
