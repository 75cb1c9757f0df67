"""Reaps containers whose process has ended: kills what they started, gives back inputs, reports them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Sequence

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.store.entries import TakenBack
from qmodal.store.history.accounts import tell_taken_back
from qmodal.store.pools import BUDGET
from qmodal.telemetry.events import CONTAINER_ENDED, CONTAINER_HELD, CONTAINER_UNCONCLUDED, emit
from qmodal.transport.defects import survive
from qmodal.transport.errors import StreamGoneError
from qmodal.transport.operation import ask
from qmodal_workers.agent.box.gpus import lost_of
from qmodal_workers.agent.box.machine import out_of_memory_counts
from qmodal_workers.agent.box.parts import BoxParts
from qmodal_workers.agent.containers import Container, ContainerTable, Termination
from qmodal_workers.agent.lease import CUT_OFF
from qmodal_workers.agent.measuring.statistics import FunctionStatistics
from qmodal_workers.agent.starter import Starter
from qmodal_workers.agent.takeover import charged, end_overrun
from qmodal_workers.ipc import child_processes
from qmodal_workers.ipc.child_processes import OomKills, ZombieCollector
from qmodal_workers.ipc.process_marks import mark_of
from qmodal_workers.ipc.shared_record import STOPPED, ContainerStatus
from qmodal_workers.output.log_writer import LogWriter
from qmodal_workers.spawn.template_pool import TemplatePool

# Beside SIGCHLD, which may come before its child is known.
REAP_SECONDS = 1.0
RECLAIM_RETRY_SECONDS = 0.5
# The last output of a container holds up its end for no longer.
LAST_OUTPUT_SECONDS = 5.0
# The kernel tells which process it has ended for that only where its group is its own.
OUT_OF_MEMORY = "its container was killed, probably for want of memory on its box"
log = logging.getLogger("qmodal.worker")


class Reaper:
    """Concludes the containers of one worker whose process has ended; `reap` is called on SIGCHLD, too."""

    def __init__(
        self,
        client: Client,
        containers: ContainerTable,
        *,
        starter: Starter,
        templates: TemplatePool,
        logs: LogWriter,
        statistics: FunctionStatistics,
        box: BoxParts,
    ) -> None:
        self._gpus, self._limits = box.gpus, box.limits
        self._client = client
        self._containers = containers
        self._starter = starter
        self._templates = templates
        self._logs = logs
        self._statistics = statistics
        self._zombies = ZombieCollector()
        self._oom_kills = OomKills(out_of_memory_counts())
        self._concluding: dict[str, asyncio.Task[None]] = {}

    async def watch(self) -> None:
        """Reap every second, for ever, and end templates and processes that nobody needs."""
        while True:
            with survive("the look for ended containers"):
                self.reap()
            with survive("the look for templates that nobody needs"):
                self._tidy()
            with survive("ending processes that nobody waits for"):
                self._end_strangers()
                self._zombies.collect(self._known())
            await asyncio.sleep(REAP_SECONDS)

    def _tidy(self) -> None:
        living = self._containers.living()
        self._templates.tidy(
            {(each.report.app, each.report.number) for each in living},
            {each.pool for each in living},
        )

    def reap(self) -> None:
        """Begin to conclude the containers whose process has ended, and those where that has failed."""
        for container in self._containers.running():
            with survive(f"the look at whether {container.id} lives"):
                self._reap(container)

    def _reap(self, container: Container) -> None:
        concluding = self._concluding.get(container.id)
        if concluding is not None:
            if concluding.done():  # and the container is not over: something went wrong there
                self._begin_to_conclude(container)
            return
        status = child_processes.exit_status(container.pid)
        if status is not None:
            self._ended(container, status)

    def _known(self) -> set[int]:
        self._templates.receive()
        running = {container.pid for container in self._containers.running()}
        return running | self._templates.pids

    def _end_strangers(self) -> None:
        """Kill processes of containers that are over, such as the child of one that was just killed."""
        marks = self._templates.marks
        living = self._templates.living_marks
        living |= {container.mark for container in self._containers.living()}
        child_processes.end_orphans(
            self._known(), lambda pid: marks.is_ours(mark := mark_of(pid)) and mark not in living
        )

    def _ended(self, container: Container, status: int) -> None:
        pid, mark = container.pid, container.mark
        container.exit_status = status
        try:
            child_processes.end_session(pid)
            child_processes.end_orphans(
                self._known(),
                lambda orphan: (
                    (mark != 0 and mark_of(orphan) == mark)
                    or child_processes.belongs(orphan, pid, container.id)
                ),
            )
            if container.process is not None:
                container.process.returncode = status
            self._starter.receive(container)  # what it said last
            self._limits.ended(container)
        finally:
            # Whatever that comes to: from here on its pid may be anybody's, so this is not done twice.
            child_processes.collect(pid)
            self._begin_to_conclude(container)

    def _begin_to_conclude(self, container: Container) -> None:
        concluding = asyncio.create_task(self._conclude(container), name=f"end {container.id}")
        self._concluding[container.id] = concluding

    async def _conclude(self, container: Container) -> None:
        try:
            if container.report.gpus:
                await self._look_for_loss(container)
            reason = self._reason(container, container.exit_status)
            await self._give_back(container, reason)
            with (
                contextlib.suppress(TimeoutError),
                survive(f"writing the last output of {container.id}"),
            ):
                async with asyncio.timeout(LAST_OUTPUT_SECONDS):
                    await self._logs.finish(container.id)
            how = self._ending(container, reason)
            self._statistics.ended(container, how)
            self._close(container)
            self._gpus.release(container.id)
            self._report(container, reason)
        except Exception as error:
            emit(CONTAINER_UNCONCLUDED, error, **container.about)
            await asyncio.sleep(RECLAIM_RETRY_SECONDS)
            return  # it stays in the list, and the next look begins anew
        del self._concluding[container.id]
        state = container.report.state
        emit(CONTAINER_ENDED, state=state, reason=reason, how=how, **container.about)

    async def _look_for_loss(self, container: Container) -> None:
        """Not its inputs are to blame for its end if it has lost a GPU, which the driver may not have said yet."""
        if container.exit_status and container.termination is None:
            await self._gpus.watch.look()
            lost = lost_of(container, self._gpus.watch)
            container.termination = Termination(lost) if lost else None

    def _close(self, container: Container) -> None:
        if container.endpoints is not None:
            asyncio.get_running_loop().remove_reader(container.endpoints.control)
            container.endpoints.close()
            container.endpoints = None

    def _ending(self, container: Container, reason: str) -> str:
        """How it ended, in one of the words of statistics."""
        if self._has_failed(container):
            return "failed"
        if container.over_memory or reason == OUT_OF_MEMORY:
            return "out_of_memory"
        if container.termination is not None or reason == CUT_OFF:
            return "killed"
        return "crashed" if container.exit_status else "stopped"

    def _has_failed(self, container: Container) -> bool:
        return container.report.state == "starting" and not self._was_unwanted(container)

    def _report(self, container: Container, reason: str) -> None:
        failed = self._has_failed(container)
        detail = container.failure or container.stopping or container.stop_reason
        detail = detail or ("" if container.exit_status == 0 else reason)
        self._containers.note(
            container,
            state="failed" if failed else "ended",
            detail=detail,
            pid=0,
            connection=0,
            unfit=container.is_unfit,
            gpus=(),
        )

    def _was_unwanted(self, container: Container) -> bool:
        return container.command.draining != 0

    def _reason(self, container: Container, status: int) -> str:
        has_oom_kill = self._oom_kills.have_grown()
        if container.over_memory:
            return container.over_memory
        if container.termination is not None:
            return container.termination.reason
        if status == -signal.SIGKILL and _was_cut_off(container):
            return CUT_OFF
        if status == -signal.SIGKILL and has_oom_kill:
            return OUT_OF_MEMORY
        if status < 0:
            return f"its container was killed by signal {-status}"
        return f"its container exited with status {status}"

    async def _give_back(self, container: Container, reason: str) -> None:
        """Give back its inputs, repeated until it works: nobody else does while this worker lives."""
        status = container.status()
        started, budget = _started(container, status)
        told: list[TakenBack] = []
        begin = time.monotonic()
        while True:
            try:
                await self._close_connection(container, status)
                if container.termination is not None:
                    for overran in container.termination.overran:
                        await self._end_overrun(container, overran)
                reclaim = self._client.pools.reclaim(
                    container.pool,
                    container.id,
                    reason=reason,
                    charged=started,
                    budget=budget,
                    told=told,
                )
                back, lost = await self._client.aio(reclaim)
            except Error as error:
                emit(CONTAINER_HELD, reason=str(error), **container.about)
                await asyncio.sleep(RECLAIM_RETRY_SECONDS)
            else:
                tell_taken_back(told, reason, container.about)
                self._statistics.note(container, "redeliveries", back)
                self._statistics.note(container, "lost", lost)
                took = (time.monotonic() - begin) * 1000
                log.debug("%s: %d back, %d lost in %.0f ms", container.id, back, lost, took)
                return

    async def _end_overrun(self, container: Container, status: ContainerStatus) -> None:
        with contextlib.suppress(StreamGoneError):
            changes = await self._client.aio(end_overrun(self._client, container, status))
            for name, amount in changes.items():
                self._statistics.note(container, name, amount)

    async def _close_connection(self, container: Container, status: ContainerStatus | None) -> None:
        """Close its claiming connection: a child of user code may have inherited it, and would get inputs."""
        connection = (status.connection if status else 0) or container.report.connection
        if connection:
            with contextlib.suppress(Error):
                await self._client.aio(ask((b"CLIENT", b"KILL", b"ID", connection), patience=1.0))


def _was_cut_off(container: Container) -> bool:
    """Whether it has ended itself, because it saw as soon as we do that the lease is not safe."""
    return container.endpoints is not None and container.endpoints.record.was_cut_off


def _started(container: Container, status: ContainerStatus | None) -> tuple[Sequence[str], int]:
    """The inputs that are charged with this death, and how many deaths an input may have.

    Not by the exit status: user code may call os._exit(0).
    """
    if container.options.is_once:
        return charged(status), 1
    return () if _was_ended_by_us(container, status) else charged(status), BUDGET


def _was_ended_by_us(container: Container, status: ContainerStatus | None) -> bool:
    """Whether it ended because we wanted it to: killed, or by an input that was told to stop.

    For what it took of memory its inputs are to blame, whoever has killed it.
    """
    if container.over_memory:
        return False
    if any(each.why == STOPPED for each in container.interrupts.values()):
        return True
    pending = container.pending_interrupt
    if container.termination is not None or pending is None or status is None:
        return container.termination is not None
    return pending.why == STOPPED and pending.serial == status.serial
