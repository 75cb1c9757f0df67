"""When a container's process ends: end what it started, give back what it held, report it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Sequence

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.store.pools import BUDGET
from qmodal.transport.defects import survive
from qmodal.transport.errors import StreamGoneError
from qmodal.transport.operation import ask
from qmodal_workers.agent.containers import Container, ContainerTable
from qmodal_workers.agent.starter import Starter
from qmodal_workers.agent.takeover import charged, end_overrun
from qmodal_workers.ipc import processes as children
from qmodal_workers.ipc.marks import mark_of
from qmodal_workers.ipc.processes import Orphanage, OutOfMemory
from qmodal_workers.ipc.shared_record import STOPPED, ContainerStatus
from qmodal_workers.output.log_writer import LogWriter
from qmodal_workers.spawn.template_pool import TemplatePool

LOOK_SECONDS = 1.0
REPEAT_SECONDS = 0.5
LOG_SECONDS = 5.0
log = logging.getLogger("qmodal.worker")


class Reaper:
    """Watches the processes of a worker's containers; `look` is called on SIGCHLD."""

    def __init__(
        self,
        client: Client,
        roster: ContainerTable,
        *,
        starter: Starter,
        templates: TemplatePool,
        logs: LogWriter,
    ) -> None:
        self._client = client
        self._roster = roster
        self._starter = starter
        self._templates = templates
        self._logs = logs
        self._orphanage = Orphanage()
        self._memory = OutOfMemory()
        self._concluding: dict[str, asyncio.Task[None]] = {}

    async def watch(self) -> None:
        """Look every second: a signal may come before its child is known."""
        while True:
            with survive("the look for ended containers"):
                self.look()
            with survive("the look for templates that nobody needs"):
                self._tidy()
            with survive("ending processes that nobody waits for"):
                self._end_strangers()
                self._orphanage.collect(self._known())
            await asyncio.sleep(LOOK_SECONDS)

    def _tidy(self) -> None:
        living = self._roster.living()
        self._templates.tidy(
            {(each.report.app, each.report.number) for each in living},
            {each.pool for each in living},
        )

    def look(self) -> None:
        """Find out which containers have ended, and of which of them that is not concluded."""
        for container in self._roster.running():
            with survive(f"the look at whether {container.id} lives"):
                self._look_at(container)

    def _look_at(self, container: Container) -> None:
        concluding = self._concluding.get(container.id)
        if concluding is not None:
            if concluding.done():  # and the container is not over: something went wrong there
                self._begin_to_conclude(container)
            return
        status = children.exit_status(container.pid)
        if status is not None:
            self._ended(container, status)

    def _known(self) -> set[int]:
        self._templates.pump()
        running = {container.pid for container in self._roster.running()}
        return running | self._templates.pids

    def _end_strangers(self) -> None:
        """End what those have left that are over, such as the child of one that was just killed."""
        marks = self._templates.marks
        living = self._templates.living_marks
        living |= {container.mark for container in self._roster.living()}
        children.end_orphans(
            self._known(), lambda pid: marks.is_ours(mark := mark_of(pid)) and mark not in living
        )

    def _ended(self, container: Container, status: int) -> None:
        pid, mark = container.pid, container.mark
        container.status = status
        try:
            children.end_session(pid)
            children.end_orphans(
                self._known(),
                lambda orphan: (
                    (mark != 0 and mark_of(orphan) == mark)
                    or children.belongs(orphan, pid, container.id)
                ),
            )
            if container.process is not None:
                container.process.returncode = status
            self._starter.pump(container)  # what it said last
        finally:
            # Whatever that comes to: from here on its pid may be anybody's, so this is not done twice.
            children.collect(pid)
            self._begin_to_conclude(container)

    def _begin_to_conclude(self, container: Container) -> None:
        concluding = asyncio.create_task(self._conclude(container), name=f"end {container.id}")
        self._concluding[container.id] = concluding

    async def _conclude(self, container: Container) -> None:
        reason = self._reason(container, container.status)
        try:
            await self._give_back(container, reason)
            with (
                contextlib.suppress(TimeoutError),
                survive(f"writing the last output of {container.id}"),
            ):
                await asyncio.wait_for(self._logs.finish(container.id), LOG_SECONDS)
            self._close(container)
            self._report(container, reason)
        except Exception:
            log.exception("the end of %s is not concluded yet", container.id)
            await asyncio.sleep(REPEAT_SECONDS)
            return  # it stays in the list, and the next look begins anew
        del self._concluding[container.id]
        log.info("%s %s: %s", container.id, container.report.state, reason)

    def _close(self, container: Container) -> None:
        if container.ends is not None:
            asyncio.get_running_loop().remove_reader(container.ends.control)
            container.ends.close()
            container.ends = None

    def _report(self, container: Container, reason: str) -> None:
        failed = container.report.state == "starting" and not self._was_unwanted(container)
        detail = container.failure or container.stopping or container.stop_reason
        detail = detail or ("" if container.status == 0 else reason)
        self._roster.note(
            container,
            state="failed" if failed else "ended",
            detail=detail,
            pid=0,
            connection=0,
            unfit=container.is_unfit,
        )

    def _was_unwanted(self, container: Container) -> bool:
        return container.told.draining

    def _reason(self, container: Container, status: int) -> str:
        struck = self._memory.has_struck()
        if container.ending is not None:
            return container.ending.reason
        if status == -signal.SIGKILL and struck:
            return "its container ran out of memory"
        if status < 0:
            return f"its container was killed by signal {-status}"
        return f"its container exited with status {status}"

    async def _give_back(self, container: Container, reason: str) -> None:
        """Repeated for as long as it takes: nobody else gives back what our container held."""
        doing = container.doing()
        started, budget = _started(container, doing)
        begin = time.monotonic()
        while True:
            try:
                await self._close_connection(container, doing)
                if container.ending is not None and container.ending.overran is not None:
                    await self._end_overrun(container, container.ending.overran)
                reclaim = self._client.pools.reclaim(
                    container.pool, container.id, reason=reason, charged=started, budget=budget
                )
                back, lost = await self._client.aio(reclaim)
            except Error as error:
                log.warning("what %s held is not given back yet: %s", container.id, error)
                await asyncio.sleep(REPEAT_SECONDS)
            else:
                took = (time.monotonic() - begin) * 1000
                log.debug("%s: %d back, %d lost in %.0f ms", container.id, back, lost, took)
                return

    async def _end_overrun(self, container: Container, doing: ContainerStatus) -> None:
        with contextlib.suppress(StreamGoneError):
            await self._client.aio(end_overrun(self._client, container, doing))

    async def _close_connection(self, container: Container, doing: ContainerStatus | None) -> None:
        """A child of user code may have inherited it, and would be handed inputs for ever."""
        connection = (doing.connection if doing else 0) or container.report.connection
        if connection:
            with contextlib.suppress(Error):
                await self._client.aio(ask((b"CLIENT", b"KILL", b"ID", connection), patience=1.0))


def _started(container: Container, doing: ContainerStatus | None) -> tuple[Sequence[str], int]:
    """What is charged with this death, and how many deaths an input may have.

    Not by the exit status: user code may call os._exit(0).
    """
    if container.options.is_once:
        return charged(doing), 1
    return () if _was_told(container, doing) else charged(doing), BUDGET


def _was_told(container: Container, doing: ContainerStatus | None) -> bool:
    """Whether it ended because we wanted it to: killed, or by an input that was told to stop."""
    chase = container.chase
    if container.ending is not None or chase is None or doing is None:
        return container.ending is not None
    return chase.why == STOPPED and chase.serial == doing.serial
