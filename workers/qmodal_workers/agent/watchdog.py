"""Enforces time limits and cancellation from outside the container, where user code cannot evade them.

Only records are read here. A record is a hint: an interrupt is aimed at one input by its serial,
and nothing is killed or released on one reading.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Collection, Coroutine

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.transport.defects import survive
from qmodal.transport.operation import Op
from qmodal_workers.agent import side_by_side, takeover
from qmodal_workers.agent.containers import (
    Cancellation,
    Container,
    ContainerTable,
    PendingInterrupt,
    Termination,
)
from qmodal_workers.ipc.child_processes import is_stopped
from qmodal_workers.ipc.entry_names import Entry
from qmodal_workers.ipc.processes import send_signal
from qmodal_workers.ipc.running_table import RunningInput
from qmodal_workers.ipc.shared_record import CANCELLED, TIMEOUT, ContainerStatus
from qmodal_workers.spawn.start_plan import start_limit, too_slow

# Every container's record is checked this often.
CHECK_SECONDS = 0.05
# From the interrupt to SIGKILL: for user code that cleans up, or that nothing reaches.
INTERRUPT_GRACE_SECONDS = 5.0
# An input that runs longer than this blocks the entries behind it, if its container has not ticked for
# so long that it will not release them itself.
LONG_INPUT_NS = 350_000_000
STALE_TICK_NS = 250_000_000
AUDIT_SECONDS = 2.0
# A cancellation may be heard before the record shows its input: the record is read again after this.
RECHECK_SECONDS = 0.005
# Until then a cancelled input that starts late is recognised.
REMEMBER_CANCELLED_SECONDS = 10.0
INTERRUPT_SIGNAL = signal.SIGUSR2
# An input is cancelled first, and its worker told then. A look in between waits so long for the message, which
# may ask for more than the interrupt that such an input gets otherwise.
HEAR_OUT_SECONDS, HEAR_POLL_SECONDS = 0.5, 0.01
# Of an input that is not held any more, and whose cancellation this worker did not hear.
UNHEARD = Cancellation(0.0, takes_container=False)


def is_overdue(status: ContainerStatus, now: int) -> bool:
    """Whether the running input has exceeded its timeout; `now` in monotonic nanoseconds."""
    return is_running(status) and 0 < status.timeout < now - status.started


def is_running(status: ContainerStatus | None) -> bool:
    """Whether user code of one input runs."""
    return status is not None and status.serial > 0 and status.running > 0


def is_blocking(status: ContainerStatus, now: int) -> bool:
    """Whether entries wait behind a long input, in a container too busy to release them itself."""
    return (
        is_running(status)
        and (status.ahead or len(status.held) > status.running)
        and now - status.started > LONG_INPUT_NS
        and now - status.tick > STALE_TICK_NS
    )


class Watchdog:
    """Interrupts and kills what runs too long or was cancelled, and releases what waits behind long inputs."""

    def __init__(self, client: Client, containers: ContainerTable) -> None:
        self._client = client
        self._containers = containers
        self._acting: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def watch(self) -> None:
        """Check all containers every 50 ms, for ever."""
        while True:
            self.check()
            await asyncio.sleep(CHECK_SECONDS)

    def check(self) -> None:
        """Check each container once; most cost one read of a timestamp, as there may be many."""
        now = time.monotonic_ns()
        for container in self._containers.running():
            if container.termination is None:
                with survive(f"the look at {container.id}"):
                    self._check(container, now)

    def _check(self, container: Container, now: int) -> None:
        if container.report.state == "starting":
            self._check_start(container)
        status = None if container.is_calm(now, LONG_INPUT_NS) else container.status()
        if status is None:
            return
        if status.inputs or container.interrupts:
            self._check_side_by_side(container, status)
        else:
            self._check_input(container, status)

    def _check_start(self, container: Container) -> None:
        begin = container.limited_from
        if begin and time.monotonic() - begin > start_limit(container.options):
            container.failure = too_slow(container.options)
            self.kill(container, Termination(container.failure))

    def _check_input(self, container: Container, status: ContainerStatus) -> None:
        pending = container.pending_interrupt
        if pending is not None and (pending.serial != status.serial or not is_running(status)):
            pending = container.pending_interrupt = None
        now = time.monotonic_ns()
        if container.cancelled:
            self._check_cancelled(container, status)
        if pending is not None:
            if time.monotonic() - pending.since > INTERRUPT_GRACE_SECONDS:
                self._act(container, self._enforce_interrupt(container, pending))
        elif is_overdue(status, now):
            self.interrupt(container, status.serial, TIMEOUT)
            self._tell(container, status.held[0], status.part, TIMEOUT)
        elif is_blocking(status, now) and container.released != status.serial:
            self._suspect(container, status)

    def _check_side_by_side(self, container: Container, status: ContainerStatus) -> None:
        container.interrupts = side_by_side.still_pending(status, container.interrupts)
        if container.cancelled:
            self._check_cancelled(container, status)
        for each in side_by_side.overdue(status, container.interrupts, time.monotonic_ns()):
            self._interrupt_one(container, each, TIMEOUT)
            self._tell(container, (each.lane, each.entry), 0, TIMEOUT)
        since = time.monotonic() - INTERRUPT_GRACE_SECONDS
        if side_by_side.resisting(status, container.interrupts, since):
            self._act(container, self._enforce_side_by_side(container, since))

    def interrupt_all(self, container: Container, status: ContainerStatus, why: int) -> None:
        """Interrupt all that runs in a container of several inputs; safe to repeat."""
        for each in side_by_side.fresh(status, container.interrupts):
            self._interrupt_one(container, each, why)

    def _interrupt_one(self, container: Container, running: RunningInput, why: int) -> None:
        """Interrupt one of several inputs; the container is killed after five seconds if it runs on."""
        if container.endpoints is None:
            return
        pending = PendingInterrupt(running.serial, why, time.monotonic())
        container.interrupts[running.row, running.serial] = pending
        container.endpoints.record.table.interrupt(running.row, running.serial, why)
        send_signal(container.pid, INTERRUPT_SIGNAL)

    def _suspect(self, container: Container, status: ContainerStatus) -> None:
        if container.suspect == status.serial:
            container.released = status.serial
            self._act(container, self._release(container, status))
        container.suspect = status.serial

    def interrupt(self, container: Container, serial: int, why: int) -> None:
        """Interrupt user code of that input; the container is killed after five seconds if it runs on."""
        container.pending_interrupt = PendingInterrupt(serial, why, time.monotonic())
        container.tell(target=serial, why=why)
        send_signal(container.pid, INTERRUPT_SIGNAL)

    def cancelled(self, name: str, entry: str) -> None:
        """An input was cancelled; interrupt it if it is the one that runs, now or in a moment."""
        self._cancelled(name, entry, Cancellation(time.monotonic(), takes_container=False))

    def killed(self, name: str, entry: str) -> None:
        """An input was cancelled along with its container: kill that, if the input has started."""
        self._cancelled(name, entry, Cancellation(time.monotonic(), takes_container=True))

    def _cancelled(self, name: str, entry: str, cancellation: Cancellation) -> None:
        container = self._containers.find(name)
        if container is None or not container.pid or container.termination is not None:
            return
        if container.endpoints is not None:
            # Before we look what runs; from here on it starts none without looking whether it may.
            container.endpoints.record.cancelled()
        status = container.status()
        if status is None or not self._end(container, status, entry, cancellation):
            container.cancelled[entry] = cancellation
            asyncio.get_running_loop().call_later(RECHECK_SECONDS, self.check)

    def _end(
        self, container: Container, status: ContainerStatus, entry: str, cancellation: Cancellation
    ) -> bool:
        """Kill the container or interrupt the input, if it runs; returns whether it does."""
        runs = [at for _, at in status.held[: status.running]] if is_running(status) else []
        if cancellation.takes_container and entry in runs:
            self.kill(
                container, Termination("an input of it was cancelled, and its container with it")
            )
            return True
        if status.inputs:
            found = side_by_side.find(status, entry)
            if found is not None:
                self._interrupt_one(container, found, CANCELLED)
                self._tell(container, (found.lane, found.entry), 0, CANCELLED)
            return found is not None
        if runs[:1] == [entry]:
            self.interrupt(container, status.serial, CANCELLED)
            self._tell(container, status.held[0], status.part, CANCELLED)
            return True
        return False

    def _check_cancelled(self, container: Container, status: ContainerStatus) -> None:
        """Look at a container that now runs an input whose cancellation came before it started."""
        heard = time.monotonic() - REMEMBER_CANCELLED_SECONDS
        container.cancelled = {e: c for e, c in container.cancelled.items() if c.since > heard}
        runs = [entry for _, entry in status.held[:1]]
        if status.inputs:
            runs = [each.entry for each in side_by_side.fresh(status, container.interrupts)]
        if is_running(status) and any(entry in container.cancelled for entry in runs):
            self._act(container, self._audit(container))

    def acknowledge(self, token: str) -> None:
        """A cancel waits for this worker: answer that all its cancellations were heard."""
        self._soon(self._client.calls.heard(token))

    def _tell(self, container: Container, entry: Entry, index: int, why: int) -> None:
        """Say in the log that this is to stop; which input it is has to be read first."""
        self._soon(takeover.tell_interrupted(self._client, container, entry, index, why))

    def _soon(self, operation: Op[None]) -> None:
        task = asyncio.create_task(self._carry_out(operation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, operation: Op[None]) -> None:
        with contextlib.suppress(Error):
            await self._client.aio(operation)

    async def audit(self) -> None:
        """Interrupt inputs that are not held any more, for ever: they were cancelled, or another has them."""
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
        if before.inputs:
            await self._interrupt_unheld_inputs(container, before)
            return
        held = self._client.pools.holds(container.pool, container.id, *before.held[0])
        if await self._client.aio(held) or not _still_runs(container, before.serial):
            return
        entry = before.held[0][1]
        await self._hear_out(container, {entry})
        after = container.status()
        if after is not None and _still_runs(container, before.serial):
            self._end(container, after, entry, container.cancelled.get(entry, UNHEARD))

    async def _interrupt_unheld_inputs(self, container: Container, before: ContainerStatus) -> None:
        held = await self._client.aio(self._client.pools.held_by(container.pool, container.id))
        known = {(each.row, each.serial) for each in before.inputs}
        gone = [each for each in _unheld(container, held) if (each.row, each.serial) in known]
        await self._hear_out(container, {each.entry for each in gone})
        after = container.status()
        for each in _unheld(container, held):
            if after is not None and each in gone:
                self._end(
                    container, after, each.entry, container.cancelled.get(each.entry, UNHEARD)
                )

    async def _hear_out(self, container: Container, entries: set[str]) -> None:
        """Wait until the cancellations of all these entries were heard, or something has come of them."""
        ends = time.monotonic() + HEAR_OUT_SECONDS
        while time.monotonic() < ends and not container.cancelled.keys() >= entries:
            if container.termination is not None or container.pending_interrupt is not None:
                return
            await asyncio.sleep(HEAR_POLL_SECONDS)

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
            overran = (status,) if pending.why == TIMEOUT else ()
            reason = "it did not end when its input was to stop"
            self.kill(container, Termination(reason, overran))
        else:
            send_signal(container.pid, signal.SIGCONT)

    async def _enforce_side_by_side(self, container: Container, since: float) -> None:
        """Kill the container if something still runs that was interrupted before that moment."""
        send_signal(container.pid, signal.SIGSTOP)
        await _until_stopped(container)
        status, interrupts = container.status(), container.interrupts
        resisting = [] if status is None else side_by_side.resisting(status, interrupts, since)
        if status is not None and resisting:
            overran = side_by_side.overrun(status, interrupts, resisting)
            reason = "one of its inputs did not end when it was to stop"
            self.kill(container, Termination(reason, overran))
        else:
            send_signal(container.pid, signal.SIGCONT)

    async def _release(self, container: Container, status: ContainerStatus) -> None:
        with contextlib.suppress(Error):
            await self._client.aio(takeover.release_behind(self._client, container, status))

    def _act(self, container: Container, action: Coroutine[None, None, None]) -> None:
        """Run the task, unless another one is under way for the container."""
        if container.id in self._acting:
            action.close()
            return
        task = asyncio.create_task(action)
        self._acting[container.id] = task
        task.add_done_callback(lambda _: self._acting.pop(container.id, None))


def _still_runs(container: Container, serial: int) -> bool:
    """Whether it runs the input of that serial, and nothing has been done about it."""
    if (
        container.is_over
        or container.termination is not None
        or container.pending_interrupt is not None
    ):
        return False
    status = container.status()
    return status is not None and is_running(status) and status.serial == serial


def _unheld(container: Container, held: Collection[Entry]) -> list[RunningInput]:
    """The inputs of those that it runs that are not `held`, and that nothing has been done about."""
    status = container.status()
    if status is None or container.is_over or container.termination is not None:
        return []
    return [
        each
        for each in side_by_side.fresh(status, container.interrupts)
        if (each.lane, each.entry) not in held
    ]


async def _until_stopped(container: Container) -> None:
    for _ in range(1000):
        if not container.pid or is_stopped(container.pid):
            return
        await asyncio.sleep(0.001)
