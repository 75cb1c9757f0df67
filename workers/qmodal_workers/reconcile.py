"""Keep what runs equal to what was assigned."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from qmodal.client import Client
from qmodal.exception import Error
from qmodal.store.exchange import Op
from qmodal_workers.draining import Draining
from qmodal_workers.roster import Ending, Roster
from qmodal_workers.starter import Starter
from qmodal_workers.watch import Watch

LOOK_SECONDS = 1.0
log = logging.getLogger("qmodal.worker")


class Reconciler:
    """Looks every second, and at once when `hint` is called."""

    def __init__(
        self,
        client: Client,
        roster: Roster,
        worker: str,
        *,
        starter: Starter,
        draining: Draining,
        watch: Watch,
    ) -> None:
        self._client = client
        self._roster = roster
        self._worker = worker
        self._starter = starter
        self._draining = draining
        self._watch = watch
        self._hinted = asyncio.Event()
        self.is_closed = False

    def hint(self) -> None:
        """Assignments may have changed."""
        self._hinted.set()

    async def watch(self) -> None:
        """Reconcile for ever."""
        while True:
            self._hinted.clear()
            try:
                assigned, stopped = await self._client.aio(self._look())
            except Error as error:
                log.warning("assignments cannot be read: %s", error)
            else:
                self.apply(assigned, stopped)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._hinted.wait()

    def _look(self) -> Op[tuple[dict[str, str], set[str]]]:
        """What is assigned, and which apps of our containers have ended."""
        assigned = yield from self._client.fleet.assigned([self._worker])
        stopped: set[str] = set()
        for app in sorted({each.report.app for each in self._roster.living()} - {""}):
            record = yield from self._client.apps.record(app)
            if record is None or record.state == "stopped":
                stopped.add(app)
        return assigned[self._worker], stopped

    def apply(self, assigned: dict[str, str], stopped: set[str]) -> None:
        """Start, drain, kill and forget what has to be."""
        for container in self._roster.living():
            if container.report.app in stopped:
                self._watch.kill(container, Ending("its app has stopped"))
            elif container.id not in assigned:
                self._draining.begin(container)
        for container in self._roster:
            if container.is_over and container.id not in assigned:
                self._roster.forget(container)
        if not self.is_closed:
            self._start_missing(assigned)

    def _start_missing(self, assigned: dict[str, str]) -> None:
        for name, pool in assigned.items():
            if name not in self._roster:
                self._starter.begin(name, pool)
