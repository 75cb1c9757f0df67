"""The worker process of a box: it keeps containers, and runs no user code itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys

from qmodal.client.client import Client
from qmodal.embedded.credentials import CredentialFiles
from qmodal.exception import ConfigurationError, Error
from qmodal.transport.defects import note
from qmodal_workers.agent.loops import repeated
from qmodal_workers.agent.session import Stop, WorkerOptions, WorkerSession
from qmodal_workers.ipc.marks import Marks
from qmodal_workers.ipc.processes import become_subreaper
from qmodal_workers.output.log_writer import LogWriter
from qmodal_workers.spawn.template_pool import TemplatePool
from qmodal_workers.spawn.zygote import Zygote

PAUSE_SECONDS = 1.0
log = logging.getLogger("qmodal.worker")


def run(client: Client, options: WorkerOptions) -> None:
    """Work until SIGTERM or SIGINT; raises ConfigurationError for a server we cannot use."""
    marks = Marks()
    nursery = Zygote.start(marks) if sys.platform == "linux" else None
    # Behind the nursery, as its containers are to find none of this.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(work(client, options, marks, nursery))


async def work(
    client: Client, options: WorkerOptions, marks: Marks, nursery: Zygote | None = None
) -> None:
    """Work until SIGTERM or SIGINT, in the running loop."""
    become_subreaper()
    stop = Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.ask)
    logs = LogWriter(client)
    files = CredentialFiles(client.settings)
    templates = TemplatePool(files.environ(), logs.pipes, nursery=nursery, marks=marks)
    writing = asyncio.create_task(repeated("logs", logs.write), name="logs")
    try:
        templates.prepare()
        await _come_back(client, options, stop, logs=logs, templates=templates)
    finally:
        templates.close()
        writing.cancel()
        logs.pipes.close()
        files.close()
        await client.aclose()


async def _come_back(
    client: Client, options: WorkerOptions, stop: Stop, *, logs: LogWriter, templates: TemplatePool
) -> None:
    """Whoever was given up ends what it has and comes back under a new id."""
    while not stop.asked.is_set():
        incarnation = WorkerSession(client, options, stop, logs=logs, templates=templates)
        try:
            if not await incarnation.live():
                return
        except ConfigurationError:
            raise
        except Error as error:
            # Nothing that a server says is a reason for the box to go: its keeper would start it anew.
            note("the worker", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_SECONDS):
                    await stop.asked.wait()
            continue
        log.warning("%s was given up; coming back under a new id", incarnation.worker)
