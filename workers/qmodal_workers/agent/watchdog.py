"""Time limits and cancellation, kept from outside, so that no user code is an escape from them.

Only records are read here. A record is a hint: an interrupt is aimed at one input by its serial,
and nothing is killed or released on one reading.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Coroutine

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.transport.defects import survive
from qmodal_workers.agent import takeover as outside
from qmodal_workers.agent.containers import Container, ContainerTable, PendingInterrupt, Termination
from qmodal_workers.ipc.child_processes import is_stopped
from qmodal_workers.ipc.processes import send_signal
from qmodal_workers.ipc.shared_record import CANCELLED, TIMEOUT, ContainerStatus
from qmodal_workers.spawn.start_plan import start_limit, too_slow

LOOK_SECONDS = 0.05
# From the interrupt to SIGKILL: for user code that cleans up, or that nothing reaches.
GRACE_SECONDS = 5.0
LONG_NS = 350_000_000
STALE_NS = 250_000_000
AUDIT_SECONDS = 2.0
# A hint may come before the record shows its input: for so long it is looked for there.
SOON_SECONDS = 0.005
REMEMBER_SECONDS = 10.0
SIGNAL = signal.SIGUSR2


def is_overdue(status: ContainerStatus, now: int) -> bool:
    """Whether the running input has used up its time; `now` in monotonic nanoseconds."""
    return is_running(status) and 0 < status.timeout < now - status.started


def is_running(status: ContainerStatus | None) -> bool:
    """Whether user code of one input runs."""
    return status is not None and status.serial > 0 and status.running > 0


def is_blocking(status: ContainerStatus, now: int) -> bool:
    """Whether entries wait behind a long input, in a container too busy to release them itself."""
    return (
        is_running(status)
        and (status.ahead or len(status.held) > status.running)
        and now - status.started > LONG_NS
        and now - status.tick > STALE_NS
    )


class Watchdog:
    """Looks at all containers every 50 ms."""

    def __init__(self, client: Client, containers: ContainerTable) -> None:
        self._client = client
        self._containers = containers
        self._acting: dict[str, asyncio.Task[None]] = {}
        self._answers: set[asyncio.Task[None]] = set()

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Look once; at most containers no more than a glance, as there may be many."""
        now = time.monotonic_ns()
        for container in self._containers.running():
            if container.termination is None:
                with survive(f"the look at {container.id}"):
                    self._look_at(container, now)

    def _look_at(self, container: Container, now: int) -> None:
        if container.report.state == "starting":
            self._look_at_start(container)
        if not container.is_calm(now, LONG_NS):
            self._look_at_input(container, container.status())

    def _look_at_start(self, container: Container) -> None:
        begin = container.limited_from
        if begin and time.monotonic() - begin > start_limit(container.options):
            container.failure = too_slow(container.options)
            self.kill(container, Termination(container.failure))

    def _look_at_input(self, container: Container, status: ContainerStatus | None) -> None:
        if status is None:
            return
        pending = container.pending_interrupt
        if pending is not None and (pending.serial != status.serial or not is_running(status)):
            pending = container.pending_interrupt = None
        now = time.monotonic_ns()
        if container.cancelled:
            self._look_for_cancelled(container, status)
        if pending is not None:
            if time.monotonic() - pending.since > GRACE_SECONDS:
                self._act(container, self._enforce_interrupt(container, pending))
        elif is_overdue(status, now):
            self.interrupt(container, status.serial, TIMEOUT)
        elif is_blocking(status, now) and container.released != status.serial:
            self._suspect(container, status)

    def _suspect(self, container: Container, status: ContainerStatus) -> None:
        if container.suspect == status.serial:
            container.released = status.serial
            self._act(container, self._release(container, status))
        container.suspect = status.serial

    def interrupt(self, container: Container, serial: int, why: int) -> None:
        """Have user code of that input interrupted, and the container killed if that fails."""
        container.pending_interrupt = PendingInterrupt(serial, why, time.monotonic())
        container.tell(target=serial, why=why)
        send_signal(container.pid, SIGNAL)

    def cancelled(self, name: str, entry: str) -> None:
        """An input was cancelled; interrupt it if it is the one that runs, now or in a moment."""
        container = self._containers.find(name)
        if container is None or not container.pid or container.termination is not None:
            return
        if container.endpoints is not None:
            # Before we look what runs; from here on it starts none without looking whether it may.
            container.endpoints.record.cancelled()
        status = container.status()
        if status is not None and is_running(status) and status.held[0][1] == entry:
            self.interrupt(container, status.serial, CANCELLED)
        else:
            container.cancelled[entry] = time.monotonic()
            asyncio.get_running_loop().call_later(SOON_SECONDS, self.look)

    def _look_for_cancelled(self, container: Container, status: ContainerStatus) -> None:
        """Claimed and not started when the hint came, an input runs although nobody wants it."""
        heard = time.monotonic() - REMEMBER_SECONDS
        container.cancelled = {e: at for e, at in container.cancelled.items() if at > heard}
        if is_running(status) and status.held[0][1] in container.cancelled:
            self._act(container, self._audit(container))

    def killed(self, name: str, entry: str) -> None:
        """An input was cancelled, and its container is to go with it; not for one that is done."""
        container = self._containers.find(name)
        if container is None or not container.pid:
            return
        status = container.status()
        runs = (
            [at for _, at in status.held[: status.running]] if status and is_running(status) else []
        )
        if entry in runs:
            self.kill(
                container, Termination("an input of it was cancelled, and its container with it")
            )
        else:
            self.cancelled(name, entry)

    def told(self, token: str) -> None:
        """Somebody has cancelled inputs, and waits until we have heard of all of them."""
        answer = asyncio.create_task(self._answer(token))
        self._answers.add(answer)
        answer.add_done_callback(self._answers.discard)

    async def _answer(self, token: str) -> None:
        with contextlib.suppress(Error):
            await self._client.aio(self._client.calls.heard(token))

    async def audit(self) -> None:
        """Every renewal: what runs and is not held any more was cancelled, or somebody has it."""
        while True:
            await asyncio.sleep(AUDIT_SECONDS)
            for container in self._containers.running():
                await self._audit(container)

    async def _audit(self, container: Container) -> None:
        with survive(f"the look at what {container.id} holds"), contextlib.suppress(Error):
            await self._interrupt_unheld(container)

    async def _interrupt_unheld(self, container: Container) -> None:
        before = container.status()
        if before is None or not is_running(before) or container.pending_interrupt is not None:
            return
        held = self._client.pools.holds(container.pool, container.id, *before.held[0])
        if await self._client.aio(held) or container.is_over:
            return
        after = container.status()
        if after is not None and is_running(after) and after.serial == before.serial:
            self.interrupt(container, after.serial, CANCELLED)

    def kill(self, container: Container, termination: Termination) -> None:
        """Kill it; what it held is given back uncharged."""
        if container.termination is None:
            container.termination = termination
        send_signal(container.pid, signal.SIGKILL)

    async def _enforce_interrupt(self, container: Container, pending: PendingInterrupt) -> None:
        """Kill the container if it still runs that input; stopped, it cannot start the next one."""
        send_signal(container.pid, signal.SIGSTOP)
        await _until_stopped(container)
        status = container.status()
        if status is not None and is_running(status) and status.serial == pending.serial:
            overran = status if pending.why == TIMEOUT else None
            reason = "it did not end when its input was to stop"
            self.kill(container, Termination(reason, overran))
        else:
            send_signal(container.pid, signal.SIGCONT)

    async def _release(self, container: Container, status: ContainerStatus) -> None:
        with contextlib.suppress(Error):
            await self._client.aio(outside.release_behind(self._client, container, status))

    def _act(self, container: Container, acting: Coroutine[None, None, None]) -> None:
        """Do that, unless something is being done about the container."""
        if container.id in self._acting:
            acting.close()
            return
        task = asyncio.create_task(acting)
        self._acting[container.id] = task
        task.add_done_callback(lambda _: self._acting.pop(container.id, None))


async def _until_stopped(container: Container) -> None:
    for _ in range(1000):
        if not container.pid or is_stopped(container.pid):
            return
        await asyncio.sleep(0.001)
