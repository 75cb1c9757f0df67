"""What runs in a control process: the ticker, and a worker of rq for each of the two queues, in threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from qmodal.client.client import Client
from qmodal.services.control.chores.doing import Doing
from qmodal.services.control.figures import ControlFigures
from qmodal.services.control.jobs.backlog import QUEUES
from qmodal.services.control.jobs.queues import JobQueue, connect
from qmodal.services.control.jobs.signed import Task, job_class
from qmodal.services.control.jobs.worker import work
from qmodal.services.control.schedules.firing import Firing
from qmodal.services.control.schedules.table import Table
from qmodal.services.control.ticker import CHORE, FIRE, Ticker

# A queue for each, as a chore may take seconds and a slot should not wait for it.
SLOTS, CHORES = QUEUES


class ControlProcess:
    """A control process, which is called `name` in lists."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name
        self.figures = ControlFigures()
        table = Table(client)
        tasks: dict[str, Task] = {
            FIRE: Firing(client, self.figures, table).fire,
            CHORE: Doing(client, name).do,
        }
        kind = job_class(client.signer, tasks)
        self._url = client.settings.redis_url or ""
        connection = connect(self._url)
        self.slots = JobQueue(SLOTS, connection, kind)
        self.chores = JobQueue(CHORES, connection, kind)
        self.ticker = Ticker(client, name, table, self.slots, self.chores)

    def run(self, stop: threading.Event, metrics_port: int | None, grace: float) -> None:
        """Work until `stop` is set, and then for at most `grace` seconds; raises ConfigurationError."""
        with self._measured(metrics_port):
            threads = [
                _started("ticker", lambda: self.ticker.run(stop)),
                *(
                    _started(jobs.name, self._worker(jobs, stop))
                    for jobs in (self.slots, self.chores)
                ),
            ]
            stop.wait()
            ends = time.monotonic() + grace
            for thread in threads:
                thread.join(max(0.0, ends - time.monotonic()))
        self.client.close()

    def _worker(self, jobs: JobQueue, stop: threading.Event) -> Callable[[], None]:
        failed = self.figures.failed
        return lambda: work(jobs, connect(self._url), self.name, stop, failed)

    @contextmanager
    def _measured(self, port: int | None) -> Iterator[None]:
        """Serve metrics on that port meanwhile, if there is one."""
        if port is None:
            yield
            return
        from qmodal.services.control.metrics import ControlMetrics

        server = ControlMetrics(self.client, self.figures, self.ticker).serve(port)
        try:
            yield
        finally:
            server.close()


def _started(name: str, run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
