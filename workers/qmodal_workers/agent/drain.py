"""Drains containers: they claim nothing more, finish what they run, and exit."""

from __future__ import annotations

import asyncio
import contextlib
import time

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.transport.defects import survive
from qmodal_workers.agent.containers import Container, ContainerTable, Termination
from qmodal_workers.agent.watchdog import Watchdog, is_running
from qmodal_workers.ipc.shared_record import STOPPED

# Claims of draining containers that wait for inputs are ended this often.
UNBLOCK_SECONDS = 0.05
UNWANTED = "it is not wanted any more"
BY_HAND = "somebody has stopped it"


class Drain:
    """Drains containers of one worker; an idle one gets `grace` seconds for its exit hooks."""

    def __init__(
        self, client: Client, containers: ContainerTable, watchdog: Watchdog, *, grace: float
    ) -> None:
        self._client = client
        self._containers = containers
        self._watchdog = watchdog
        self._grace = grace

    def begin(self, container: Container) -> None:
        """Let it finish what it runs, within its timeout, and claim nothing more; safe to repeat."""
        if container.report.state == "starting":
            container.tell(draining=True)
            self._watchdog.kill(container, Termination(UNWANTED))
        elif not container.command.draining:
            container.last_input = time.monotonic()
            container.tell(draining=True)
            self._containers.note(container, state="draining")

    def leave(self, container: Container) -> None:
        """As `begin`, because the box is drained: others take over at once, and the box does not stop."""
        if container.report.state == "starting":
            self.begin(container)
        elif not container.command.draining:
            container.last_input = time.monotonic()
            container.tell(draining=True)
            self._containers.note(container, leaving=True)

    def give_way(self, container: Container) -> None:
        """Have an idle container end, because others wait for its place."""
        if not container.command.draining:
            container.last_input = time.monotonic()
            container.tell(draining=True)
            # Not as one that drains: that would say that its box is about to stop.
            self._containers.note(container, leaving=True, gave_way=True)

    def stopped(self, name: str, how: str) -> None:
        """Handle `qmodal container stop`: let it finish what it runs if `how` is "graceful", else stop it now."""
        container = self._containers.find(name)
        if container is None or not container.pid or container.is_over:
            return
        if how == "graceful":
            self.begin(container)
        else:
            self.end(container, BY_HAND)

    def end(self, container: Container, reason: str) -> None:
        """Interrupt its input, and let it run its exit hooks and nothing else; safe to repeat."""
        container.stopping = container.stopping or reason
        self.begin(container)
        self._interrupt(container)

    def _interrupt(self, container: Container) -> None:
        status = container.status()
        if status is not None and status.inputs:
            self._watchdog.interrupt_all(container, status, STOPPED)
        elif (
            container.pid
            and status is not None
            and is_running(status)
            and container.pending_interrupt is None
        ):
            self._watchdog.interrupt(container, status.serial, STOPPED)

    async def watch(self) -> None:
        """End the blocking claims of draining containers every 50 ms, until they have seen that they drain."""
        while True:
            await asyncio.sleep(UNBLOCK_SECONDS)
            connections: list[int] = []
            for container in self._containers.running():
                if container.command.draining and container.termination is None:
                    with survive(f"draining {container.id}"):
                        connections += self._check(container)
            if connections:
                with contextlib.suppress(Error):
                    await self._client.aio(self._client.fleet.end_waits(connections))

    def _check(self, container: Container) -> list[int]:
        """The connection that its claim may wait on; kills the container if it was idle for too long."""
        status = container.status()
        now = time.monotonic()
        if container.stopping:
            self._interrupt(container)
        waits_on = [] if status is None or not status.connection else [status.connection]
        if is_running(status):
            container.last_input = now
            # Beside what runs, a container of several inputs may wait for more.
            return waits_on if status is not None and status.inputs else []
        if now - container.last_input > self._grace:
            self._watchdog.kill(
                container, Termination("its exit hooks, or threads, did not end in time")
            )
            return []
        return waits_on
