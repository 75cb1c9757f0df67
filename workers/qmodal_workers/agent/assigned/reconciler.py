"""Reconciles the containers of a box with what it was assigned."""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.store.apps import AppRecord
from qmodal.store.fleet import ContainerReport
from qmodal.store.watch.boxes import Cordon
from qmodal.transport.defects import skip, survive
from qmodal.transport.operation import Op
from qmodal.transport.sharing.gather import all_of
from qmodal.wire.ids import is_container_of, is_pool_id
from qmodal_workers.agent.assigned.turnover import Turnover
from qmodal_workers.agent.containers import Container, ContainerTable
from qmodal_workers.agent.drain import Drain
from qmodal_workers.spawn.template_pool import TemplatePool

RECONCILE_SECONDS = 1.0


class UnreadableError(Error):
    """Raised when the assignments of a box cannot be read, so that nothing about it changes."""


class Look(NamedTuple):
    """What is assigned, the apps of our containers and templates, overrides of pools while starts wait, and the cordon."""

    assigned: dict[str, str]
    apps: dict[str, AppRecord | None]
    overrides: dict[str, dict[str, float]]
    cordon: Cordon


class Reconciler:
    """Starts, drains and forgets containers; every second, and at once when `hint` is called."""

    def __init__(
        self,
        client: Client,
        containers: ContainerTable,
        worker: str,
        *,
        turnover: Turnover,
        drain: Drain,
        templates: TemplatePool,
    ) -> None:
        self._client = client
        self._containers = containers
        self._worker = worker
        self._turnover = turnover
        self._drain = drain
        self._templates = templates
        self.cordon = Cordon()  # as it was seen last
        self._hinted = asyncio.Event()
        self._is_closed = False

    def close(self) -> None:
        """Start nothing more."""
        self._is_closed = True
        self._turnover.close()

    def hint(self) -> None:
        """Reconcile at once: assignments may have changed."""
        self._hinted.set()

    async def watch(self) -> None:
        """Reconcile for ever."""
        while True:
            self._hinted.clear()
            with survive("the look at what is assigned"):
                self.apply(await self._client.aio(self._look()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECONCILE_SECONDS):
                    await self._hinted.wait()

    def _look(self) -> Op[Look]:
        listed, cordon = yield from all_of(
            self._client.fleet.assigned([self._worker]), self._client.boxes.cordon_of(self._worker)
        )
        if self._worker not in listed:  # not the same as nothing, which would end all containers
            raise UnreadableError(f"what {self._worker} should run is not there to be read")
        ours = {each.report.app for each in self._containers.living()} | self._templates.apps
        ours.discard("")
        apps = (yield from self._client.apps.records(sorted(ours))) if ours else {}
        assigned = self._own(listed[self._worker])
        overrides: dict[str, dict[str, float]] = {}
        if len(assigned) > self._turnover.most:
            for each in (yield from all_of(*map(self._client.apps.overrides, sorted(ours)))):
                overrides |= each
        return Look(assigned, apps, overrides, cordon)

    def _own(self, assigned: dict[str, str]) -> dict[str, str]:
        """The assignments without those of another box's container names, or of no pool.

        A container of such a name would count as a lost box's, and its inputs would be given to others.
        """
        own = {
            name: pool
            for name, pool in assigned.items()
            if is_container_of(name, self._worker) and is_pool_id(pool)
        }
        odd = next((name for name in assigned if name not in own), None)
        if odd is not None:
            skip(f"what {self._worker} should run", f"{odd[:80]!r} is no container of it")
        return own

    def apply(self, look: Look) -> None:
        """Start what is assigned and missing; drain, end and forget what is not assigned any more."""
        assigned, apps, overrides, self.cordon = look
        self._templates.note_apps(
            stopped={app for app, record in apps.items() if _is_over(record)},
            deployed={
                (app, record.version)
                for app, record in apps.items()
                if record is not None and record.state == "deployed"
            },
        )
        for container in self._containers.living():
            with survive(f"ending {container.id}"):
                self._end_unwanted(container, assigned, apps)
        for container in self._containers:
            if container.is_over and container.id not in assigned:
                self._containers.forget(container)
        if not self._is_closed:
            # What a box that is cordoned was assigned just before is for the leader to take back.
            self._turnover.take({} if self.cordon.is_closed else assigned, overrides)

    def _end_unwanted(
        self, container: Container, assigned: dict[str, str], apps: dict[str, AppRecord | None]
    ) -> None:
        why = _why_over(container.report, apps)
        if why:
            self._drain.end(container, why)
        elif container.id not in assigned:
            self._drain.begin(container)
        elif self.cordon.drained:
            self._drain.leave(container)


def _why_over(report: ContainerReport, apps: dict[str, AppRecord | None]) -> str:
    """Why a container should leave at once; empty if it should not."""
    if report.app not in apps:
        return ""
    record = apps[report.app]
    if record is None or _is_over(record):
        return "its app has stopped"
    if report.number < record.least and not report.pinned:
        return f"version {record.version} has replaced it"
    return ""


def _is_over(record: AppRecord | None) -> bool:
    return record is None or record.state == "stopped"
