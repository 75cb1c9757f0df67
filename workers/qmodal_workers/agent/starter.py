"""Starts containers: plans, connects, forks (or spawns an interpreter), and receives their reports."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.spec.needs.gpus import GpuNeed, gpu_needs
from qmodal.store.fleet import ContainerReport
from qmodal.store.history.statistics import Series
from qmodal.telemetry.events import (
    CONTAINER_FRESH,
    CONTAINER_NOT_STARTED,
    CONTAINER_ODD,
    CONTAINER_READY,
    emit,
)
from qmodal_workers.agent.box.parts import BoxParts
from qmodal_workers.agent.containers import Container, ContainerTable
from qmodal_workers.agent.measuring.start_times import StartTimes
from qmodal_workers.agent.measuring.statistics import FunctionStatistics
from qmodal_workers.devices.leases import GpuLease
from qmodal_workers.ipc import messages
from qmodal_workers.ipc.endpoints import Endpoints
from qmodal_workers.ipc.processes import CONTAINER_VARIABLE, interpreter, send_signal
from qmodal_workers.ipc.start_request import LARGEST_MESSAGE, StartRequest
from qmodal_workers.output.log_writer import LogWriter
from qmodal_workers.spawn.bounded_dict import BoundedDict
from qmodal_workers.spawn.start_plan import Planner, StartError, StartPlan
from qmodal_workers.spawn.template_client import (
    TEMPLATE_ANSWER_SECONDS,
    TemplateClient,
    UnusableError,
)
from qmodal_workers.spawn.template_pool import TemplatePool

LONGEST_DETAIL = 20_000


class Starter:
    """Starts the containers of one worker."""

    def __init__(
        self,
        client: Client,
        containers: ContainerTable,
        worker: str,
        *,
        logs: LogWriter,
        templates: TemplatePool,
        statistics: FunctionStatistics,
        box: BoxParts,
    ) -> None:
        # What those that were put off wait for: they are assigned, and not in the table of containers.
        self.put_off: dict[str, tuple[GpuNeed, ...]] = {}
        self._client = client
        self._containers = containers
        self._worker = worker
        self._gpus, self._limits = box.gpus, box.limits
        self._logs = logs
        self._templates = templates
        self._statistics = statistics
        self._planner = Planner(client, box.region, box.gpus.hidden)
        self._times = StartTimes(client)
        self._said: BoundedDict[tuple[str, str], None] = BoundedDict()

    def begin(self, name: str, pool: str) -> Container:
        """Begin to start a container; it is in the table from now on, unless it is put off."""
        self.put_off.pop(name, None)
        report = ContainerReport(
            container=name,
            pool=pool,
            app="",
            function="",
            label="",
            number=0,
            state="starting",
            since=time.time_ns() // 1_000_000,
        )
        container = Container(report=report, mark=self._templates.marks.new())
        # On a box with GPUs it is not said to start before it is known that it has not to wait for one.
        self._containers.add(container, is_news=not self._gpus.are_managed)
        starting = asyncio.create_task(self._start(container), name=f"start {name}")
        starting.add_done_callback(lambda task: self._started(container, task))
        container.starting = starting
        return container

    def _started(self, container: Container, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.fail(container, f"qmodal contradicts itself: {error!r}", error)

    async def _start(self, container: Container) -> None:
        try:
            plan = await self._planner.plan(container.pool)
            container.options = plan.options
            self._limits.plan(container, plan.options.needs, plan.memory)
            version = plan.version
            container.series = Series(version.environment, version.name, plan.spec.function)
            container.code = None if plan.code is None else Path(plan.code)
            lease = self._gpus.lease(container.id, needs := gpu_needs(plan.options.gpu))
            if lease is None:
                self.put_off[container.id] = needs
                self._containers.forget(container)
                return
            try:
                await self._spawn(container, plan, lease)
            finally:
                lease.hand_over()
        except (Error, OSError) as error:
            self.fail(container, str(error))

    def fail(self, container: Container, detail: str, defect: BaseException | None = None) -> None:
        """Report that the container failed before it had a process."""
        detail = self._logs.redaction.text(detail)
        emit(CONTAINER_NOT_STARTED, defect, reason=detail, **container.about)
        self._gpus.release(container.id)
        self._containers.note(container, state="failed", detail=detail[-LONGEST_DETAIL:], gpus=())
        self._statistics.ended(container, "failed")
        self._logs.pipes.finish(container.id, lambda: None)  # something may have been said of it

    async def _spawn(self, container: Container, plan: StartPlan, lease: GpuLease) -> None:
        self._containers.note(
            container,
            app=plan.spec.app_id,
            function=plan.spec.function,
            label=plan.spec.label,
            number=plan.version.number,
            pinned=plan.spec.number > 0,
            gpus=lease.uuids,
        )
        ends = Endpoints.create()
        own = lease.variables if lease.gpus else {}
        request = messages.hold(self._request(container, plan, own).pack())
        try:
            pid = await self._fork(container, plan, ends, (request, lease))
        except BaseException:
            for fd in (ends.stdout, ends.stderr):
                os.close(fd)
            ends.close()
            raise
        finally:
            os.close(request)
            ends.hand_over()
        self._adopt(container, ends, pid)

    def _request(
        self, container: Container | None, plan: StartPlan, own: Mapping[str, str]
    ) -> StartRequest:
        """The request for a container with variables of its `own`, or (None) for the template of its pool."""
        name = "" if container is None else container.id
        return StartRequest(
            container=name,
            worker=self._worker,
            pool=plan.pool,
            spec=plan.signed_spec,
            version=plan.signed_version,
            code=plan.code,
            variables=plan.variables.with_own(
                **{CONTAINER_VARIABLE: name, "MODAL_TASK_ID": name}, **own
            ).pack(),
            settings=plan.settings.to_environ(),
            mark=0 if container is None else container.mark,
            processors=() if container is None else container.processors,
            parent=os.getpid(),
        )

    async def _fork(
        self, container: Container, plan: StartPlan, ends: Endpoints, given: tuple[int, GpuLease]
    ) -> int:
        """Its process; `given`: the descriptor of its request, and what it has leased."""
        request, lease = given

        def start(template: TemplateClient) -> Any:
            return template.fork(container.id, ends.theirs, request, lease.locks)

        try:
            if plan.has_snapshot:
                pid = await self._fork_warm(container, plan, start)
                if pid:
                    return pid
            return await self._templates.fork(plan, start)
        except UnusableError as error:
            if container.termination is not None:
                raise StartError(container.termination.reason) from None
            self._log_once(container, plan, str(error))
            return self._spawn_fresh(container, plan, ends, given)

    async def _fork_warm(self, container: Container, plan: StartPlan, start: Any) -> int:
        """From the pool's own template; 0 if that cannot be, so the container runs all hooks."""
        try:
            return await self._templates.fork_warm(plan, self._request(None, plan, {}), start)
        except UnusableError as error:
            self._log_once(container, plan, str(error), "run their `snap=True` hooks themselves")
            return 0

    def _log_once(
        self,
        container: Container,
        plan: StartPlan,
        why: str,
        what: str = "start in interpreters of their own",
    ) -> None:
        said = (plan.spec.app_id, why)
        if said not in self._said and plan.options.fork:
            self._said[said] = None
            text = f"containers {what}, which takes longer: {why}"
            name = plan.version.name
            emit(CONTAINER_FRESH, version=name, reason=text, **container.about)
            self._logs.pipes.say(container.id, plan.spec.app_id, text)

    def _spawn_fresh(
        self, container: Container, plan: StartPlan, ends: Endpoints, given: tuple[int, GpuLease]
    ) -> int:
        request, lease = given
        descriptors = [*ends.theirs.as_tuple(), request]
        container.process = subprocess.Popen(
            [
                *interpreter("qmodal_workers.spawn.fresh"),
                *map(str, [*descriptors, os.getpid(), *lease.locks]),
            ],
            stdin=subprocess.DEVNULL,
            pass_fds=[*descriptors, *lease.locks],
            env={**self._variables(plan), **(lease.variables if lease.gpus else {})},
        )
        return container.process.pid

    def _variables(self, plan: StartPlan) -> dict[str, str]:
        """The variables of a fresh interpreter, which must find qmodal where this one does; none of a secret."""
        own, given = self._templates.environ, plan.variables.in_the_clear
        paths = [each["PYTHONPATH"] for each in (given, own) if "PYTHONPATH" in each]
        found = {**own, **given}
        return {**found, "PYTHONPATH": os.pathsep.join(paths)} if paths else found

    def _adopt(self, container: Container, ends: Endpoints, pid: int) -> None:
        # Until it says that user code begins: so long it may take for its own imports, too.
        container.limited_from = time.monotonic() + TEMPLATE_ANSWER_SECONDS
        container.endpoints = ends
        self._limits.begun(container, pid)
        ends.record.tell(container.command)
        ends.record.hold_until(self._containers.safe_until)
        self._logs.pipes.open(
            container.id,
            container.report.app,
            stdout=ends.stdout,
            stderr=ends.stderr,
            pool=container.pool,
            function=container.report.function,
            words=ends.record.output,
        )
        asyncio.get_running_loop().add_reader(ends.control, self.receive, container)
        self._containers.note(container, pid=pid)
        self._statistics.began(container)
        if container.termination is not None:
            send_signal(pid, signal.SIGKILL)

    def receive(self, container: Container) -> None:
        """Receive the messages that wait on the container's control socket."""
        if container.endpoints is None:
            return
        control = container.endpoints.control
        while True:
            try:
                packed = control.recv(LARGEST_MESSAGE)
            except BlockingIOError:
                return
            except OSError:
                packed = b""
            if not packed:
                # Its end may be closed by user code; only its exit says that it is over.
                asyncio.get_running_loop().remove_reader(control)
                return
            self._handle(container, messages.unpack(packed))

    def _handle(self, container: Container, message: dict[str, Any]) -> None:
        match message:
            case {"ready": int(prepared), "connection": int(connection)}:
                container.preparing = prepared / 1000
                container.prepared_cpu = _seconds(message.get("cpu"))
                took = time.monotonic() - container.assigned_at
                self._times.learn(container.pool, took)
                self._statistics.ready(container, took)
                emit(CONTAINER_READY, seconds=took, **container.about)
                state = "ready" if container.report.state == "starting" else container.report.state
                self._containers.note(
                    container, state=state, connection=connection, start_ms=int(took * 1000)
                )
            case {"failed": str(text)}:
                container.failure = self._logs.redaction.text(text)[-LONGEST_DETAIL:]
            case {"stop": str(reason)}:
                container.stop_reason = self._logs.redaction.text(reason)
                container.is_unfit = message.get("unfit") is True
                gave_way = message.get("gives_way") is True
                # What it does at its end has the same limit as if it had been told to.
                container.last_input = time.monotonic()
                container.tell(draining=True)
                # Not as one that drains: that would say that its box is about to stop.
                self._containers.note(
                    container, leaving=True, unfit=container.is_unfit, gave_way=gave_way
                )
            case {"pid": int()}:  # user code begins now
                container.limited_from = time.monotonic()
            case _:
                emit(CONTAINER_ODD, **container.about)


def _seconds(milliseconds: object) -> float:
    """What a container has said in milliseconds; 0 for anything else."""
    return max(0, milliseconds) / 1000 if isinstance(milliseconds, int) else 0.0
