"""A worker under one id: from its enrolment until it stops or was given up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from qmodal import __version__
from qmodal.client.client import Client
from qmodal.config import redacted
from qmodal.exception import Error
from qmodal.spec.needs.labels import region_of
from qmodal.spec.needs.sizes import size
from qmodal.store.fleet import WorkerReport
from qmodal.store.watch.boxes import Cordon
from qmodal.telemetry.events import WORKER_ENROLLED, emit
from qmodal.wire.ids import new_worker_id
from qmodal_workers.agent import maintenance
from qmodal_workers.agent.assigned.notifications import Notifications
from qmodal_workers.agent.assigned.reconciler import Reconciler
from qmodal_workers.agent.assigned.replacement import Replacement
from qmodal_workers.agent.assigned.turnover import Turnover
from qmodal_workers.agent.box.cgroups import Cgroups
from qmodal_workers.agent.box.gpus import GpuKeeper, texts
from qmodal_workers.agent.box.limits import ContainerLimits
from qmodal_workers.agent.box.memory_room import MemoryRoom
from qmodal_workers.agent.box.offered import Offered
from qmodal_workers.agent.box.parts import BoxParts
from qmodal_workers.agent.containers import ContainerTable, Termination
from qmodal_workers.agent.drain import Drain
from qmodal_workers.agent.lease import ContainerFence, Lease, extend
from qmodal_workers.agent.measuring.statistics import FunctionStatistics
from qmodal_workers.agent.measuring.usage import Usage
from qmodal_workers.agent.reaper import Reaper
from qmodal_workers.agent.starter import Starter
from qmodal_workers.agent.supervision import supervised
from qmodal_workers.agent.watchdog import Watchdog
from qmodal_workers.devices.leases import GpuLeases
from qmodal_workers.devices.locks import GpuLocks
from qmodal_workers.devices.offered import GpuOption
from qmodal_workers.devices.watch import GpuWatch
from qmodal_workers.ipc.shared_record import lease_clock
from qmodal_workers.output.log_writer import LogWriter
from qmodal_workers.spawn.template_pool import TemplatePool

# After the grace: for killing what is left and giving back what it held.
RECLAIM_SECONDS = 3.0
# For killing all containers of a worker that was given up.
END_GIVEN_UP_SECONDS = 2.0
SHUTDOWN_POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What the command line says about a worker; `grace` in seconds, `templates`: how many it keeps that nothing uses."""

    offered: Offered
    templates: int = 8
    labels: tuple[str, ...] = ()
    grace: float = 25.0
    gpus: GpuOption = field(default_factory=GpuOption)


@dataclass(frozen=True, slots=True)
class StopRequest:
    """The signals to stop so far. `requested`: finish what fits in the grace; `hurried`: leave now."""

    requested: asyncio.Event = field(default_factory=asyncio.Event)
    hurried: asyncio.Event = field(default_factory=asyncio.Event)

    def request(self) -> None:
        """Take in a signal to stop; the second one ends the grace."""
        (self.hurried if self.requested.is_set() else self.requested).set()


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedParts:
    """What a worker process has under all of its ids."""

    logs: LogWriter
    templates: TemplatePool
    statistics: FunctionStatistics
    usage: Usage
    gpu_watch: GpuWatch
    cgroups: Cgroups | None = None


class WorkerSession:
    """The worker under the id `worker`; its loops share one container table."""

    def __init__(
        self,
        client: Client,
        options: WorkerOptions,
        stop: StopRequest,
        shared: SharedParts,
        *,
        cordon: Cordon,
    ) -> None:
        self.worker = new_worker_id()
        self._client = client
        self._options = options
        self._stop = stop
        self.containers = containers = ContainerTable()
        self._lease = Lease(client, containers, self.worker)
        logs, templates, gpu_watch = shared.logs, shared.templates, shared.gpu_watch
        self._statistics, self._usage = statistics, usage = shared.statistics, shared.usage
        locks = GpuLocks(client.settings.gpu_locks) if gpu_watch.gpus else None
        self.gpus = gpus = GpuLeases(gpu_watch, locks)
        self._limits = ContainerLimits(containers, shared.cgroups)
        box = BoxParts(gpus=gpus, limits=self._limits, region=region_of(options.labels))
        starter = Starter(
            client,
            containers,
            self.worker,
            logs=logs,
            templates=templates,
            statistics=statistics,
            box=box,
        )
        self._reaper = Reaper(
            client,
            containers,
            starter=starter,
            templates=templates,
            logs=logs,
            statistics=statistics,
            box=box,
        )
        self._watchdog = Watchdog(client, containers)
        self._gpu_keeper = GpuKeeper(
            client,
            containers,
            self._watchdog,
            leases=gpus,
            report=self._report,
        )
        self._fence = ContainerFence(containers, self._watchdog)
        self._drain = Drain(client, containers, self._watchdog, grace=options.grace)
        self._turnover = Turnover(
            containers,
            starter,
            self._drain,
            gpus=gpus,
            offered=options.offered,
            memory=MemoryRoom(containers, usage.memory_of, options.offered),
        )
        self._reconciler = Reconciler(
            client,
            containers,
            self.worker,
            turnover=self._turnover,
            drain=self._drain,
            templates=templates,
        )
        self._reconciler.cordon = cordon
        self._notifications = Notifications(
            client,
            self.worker,
            assigned=self._reconciler.hint,
            cancelled=self._watchdog.cancelled,
            killed=self._watchdog.killed,
            stopped=self._drain.stopped,
            told=self._watchdog.acknowledge,
            replaced=Replacement(client, containers, self._drain).begin,
        )

    @property
    def cordon(self) -> Cordon:
        """Whether it is cordoned or drained, as it was seen last; the next session begins with that."""
        return self._reconciler.cordon

    async def run(self) -> bool:
        """Enroll and work; True if it was given up and should come back, False if it has stopped."""
        if not await self._enroll():
            return False
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reaper.reap)
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(supervised(name, loop), name=name)
                for name, loop in self._loops().items()
            ]
            lease = group.create_task(self._lease.keep(), name="lease")
            stop = group.create_task(self._shut_down(), name="stop")
            done, _ = await asyncio.wait({lease, stop}, return_when=asyncio.FIRST_COMPLETED)
            if stop not in done:
                await self._end_given_up()
            for loop in (*loops, lease, stop):
                loop.cancel()
        self._cancel_starts()
        return stop not in done

    async def _enroll(self) -> bool:
        """False if it was asked to stop before the server could be reached."""
        sent = lease_clock()
        enrolling = asyncio.create_task(
            self._client.aio(self._client.fleet.enroll(self._report(), self.cordon.fields)),
            name="enroll",
        )
        stopping = asyncio.create_task(self._stop.requested.wait(), name="stop")
        await asyncio.wait({enrolling, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if enrolling.done():
            await enrolling
            extend(self.containers, sent)
            emit(
                WORKER_ENROLLED,
                worker=self.worker,
                server=redacted(self._client.settings.redis_url or ""),
                cpus=f"{self._options.offered.cpus:g}",
                memory=size(self._options.offered.memory),
                containers=self._options.offered.max_containers,
                labels="".join(f", {label}" for label in self._options.labels),
                key=self._client.signer.key_id.hex(),
            )
            return True
        enrolling.cancel()
        return False

    def _loops(self) -> dict[str, Callable[[], Coroutine[None, None, None]]]:
        return {
            "notifications": self._notifications.listen,
            "reconcile": self._reconciler.watch,
            "turnover": self._turnover.watch,
            "reaper": self._reaper.watch,
            "watchdog": self._watchdog.watch,
            "audit": self._watchdog.audit,
            "drain": self._drain.watch,
            "fence": self._fence.watch,
            "looks at GPUs": self.gpus.watch.watch,
            "GPUs": self._gpu_keeper.watch,
            "lock files": self._gpu_keeper.keep_files,
            "sweep": lambda: maintenance.sweep(self._client, self.worker),
            "promote": lambda: maintenance.promote(self._client, self.containers),
            "statistics": lambda: self._statistics.keep(self.containers),
            "limits": self._limits.watch,
            "usage": lambda: self._usage.watch(self.containers),
            "code": lambda: maintenance.forget_code(self._client, self.containers),
        }

    async def _end_given_up(self) -> None:
        """Kill all containers: their inputs are being given to others by now."""
        self._reconciler.close()
        self._kill_all("its worker was given up")
        await self._until(self._is_empty, END_GIVEN_UP_SECONDS)

    async def _shut_down(self) -> None:
        await self._stop.requested.wait()
        self._reconciler.close()
        for container in self.containers.living():
            self._drain.begin(container)
        self._cancel_starts()
        await self._until(
            lambda: self._is_empty() or self._stop.hurried.is_set(), self._options.grace
        )
        self._kill_all("its worker has stopped")
        if await self._until(self._is_empty, RECLAIM_SECONDS):
            with contextlib.suppress(Error):  # the lease will end without us, too
                await self._client.aio(self._client.fleet.retire(self.worker))

    def _is_empty(self) -> bool:
        return not self.containers.running()

    def _kill_all(self, reason: str) -> None:
        for container in self.containers.running():
            self._watchdog.kill(container, Termination(reason))

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Whether the condition came true in time."""
        ends = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > ends:
                return False
            await asyncio.sleep(SHUTDOWN_POLL_SECONDS)
        return True

    def _cancel_starts(self) -> None:
        for container in self.containers:
            if container.starting is not None:
                container.starting.cancel()

    def _report(self) -> WorkerReport:
        offered = self._options.offered
        return WorkerReport(
            worker=self.worker,
            host=socket.gethostname(),
            pid=os.getpid(),
            cpus=offered.cpus,
            memory=offered.memory,
            max_containers=offered.max_containers,
            is_measured=offered.is_measured,
            ahead=self._turnover.ahead,
            python=platform.python_version(),
            version=__version__,
            labels=self._options.labels,
            gpus=texts(self.gpus.offered()),
        )
