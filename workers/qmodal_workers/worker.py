"""The worker process of a box: runs containers for as long as it lives, and no user code itself."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator

from qmodal.client.client import Client
from qmodal.embedded.credentials import CredentialFiles
from qmodal.exception import ConfigurationError, Error
from qmodal.store.watch.boxes import Cordon
from qmodal.telemetry.events import WORKER_GIVEN_UP, emit
from qmodal.telemetry.log_lines import begin_log
from qmodal.transport.defects import note
from qmodal_workers.agent.box.cgroups import Cgroups
from qmodal_workers.agent.containers import ContainerTable
from qmodal_workers.agent.measuring.statistics import FunctionStatistics
from qmodal_workers.agent.measuring.usage import Usage
from qmodal_workers.agent.session import SharedParts, StopRequest, WorkerOptions, WorkerSession
from qmodal_workers.agent.supervision import supervised
from qmodal_workers.devices.leases import GpuLeases
from qmodal_workers.devices.offered import OfferedGpus
from qmodal_workers.devices.watch import GpuWatch
from qmodal_workers.ipc.child_processes import become_subreaper
from qmodal_workers.ipc.process_marks import ProcessMarks
from qmodal_workers.output.log_writer import LogWriter
from qmodal_workers.spawn.template_pool import TemplatePool
from qmodal_workers.spawn.zygote import Zygote

REENROLL_SECONDS = 1.0


def run(
    client: Client,
    options: WorkerOptions,
    metrics_port: int | None = None,
    *,
    log_json: bool = False,
    log_level: str = "info",
) -> None:
    """Work until SIGTERM or SIGINT; raises ConfigurationError for a server, or a port, we cannot use."""
    marks = ProcessMarks()
    zygote = Zygote.start(marks) if sys.platform == "linux" else None
    # After the fork of the zygote: its containers must not inherit the logging of the worker.
    begin_log(as_json=log_json, level=log_level)
    # After it, too: a template must not have the library of the driver.
    gpus = OfferedGpus.find(options.gpus)
    asyncio.run(work(client, options, marks, zygote, gpus=gpus, metrics_port=metrics_port))


async def work(
    client: Client,
    options: WorkerOptions,
    marks: ProcessMarks,
    zygote: Zygote | None = None,
    *,
    gpus: OfferedGpus | None = None,
    metrics_port: int | None = None,
) -> None:
    """Work until SIGTERM or SIGINT, in the running loop."""
    become_subreaper()
    gpu_watch = GpuWatch(gpus or OfferedGpus())
    stop = StopRequest()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.request)
    logs, statistics = LogWriter(client), FunctionStatistics(client)
    files = CredentialFiles(client.settings)
    templates = TemplatePool(
        files.environ(), logs.pipes, zygote=zygote, marks=marks, kept=options.templates
    )
    writing = asyncio.create_task(supervised("logs", logs.write), name="logs")
    try:
        templates.prepare()

        shared = SharedParts(
            logs=logs,
            templates=templates,
            statistics=statistics,
            usage=Usage(client),
            gpu_watch=gpu_watch,
            cgroups=Cgroups.claim(),
        )

        def made(cordon: Cordon) -> WorkerSession:
            return WorkerSession(client, options, stop, shared, cordon=cordon)

        with _metrics(client, options, statistics, templates, metrics_port) as watch:
            await _run_sessions(stop, made, watch)
    finally:
        templates.close()
        await statistics.finish()
        writing.cancel()
        logs.pipes.close()
        files.close()
        await client.aclose()


@contextlib.contextmanager
def _metrics(
    client: Client,
    options: WorkerOptions,
    statistics: FunctionStatistics,
    templates: TemplatePool,
    port: int | None,
) -> Iterator[Callable[[str, ContainerTable, GpuLeases], None]]:
    """Serve metrics on that port, if there is one; what to tell of each session."""
    if port is None:
        yield lambda _worker, _containers, _gpus: None
        return
    from qmodal_workers.agent.measuring.box_metrics import BoxMetrics

    metrics = BoxMetrics(client, statistics, templates, options.offered)
    server = metrics.serve(port)
    try:
        yield metrics.watch
    finally:
        server.close()


async def _run_sessions(
    stop: StopRequest,
    made: Callable[[Cordon], WorkerSession],
    watch: Callable[[str, ContainerTable, GpuLeases], None],
) -> None:
    """Run one session after another: a worker that was given up comes back under a new id."""
    cordon = Cordon()
    while not stop.requested.is_set():
        session = made(cordon)
        watch(session.worker, session.containers, session.gpus)
        try:
            if not await session.run():
                return
        except ConfigurationError:
            raise
        except Error as error:
            # Nothing that a server says is a reason for the process to end: its keeper would restart it.
            note("the worker", error)
            cordon = session.cordon
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REENROLL_SECONDS):
                    await stop.requested.wait()
            continue
        cordon = session.cordon
        emit(WORKER_GIVEN_UP, worker=session.worker)
