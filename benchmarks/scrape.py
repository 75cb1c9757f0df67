"""What a scrape of a leader takes with 200 functions and 400 dead containers: `python -m benchmarks.scrape`."""

from __future__ import annotations

import os
import secrets
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

from benchmarks.server import private_server
from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.store.fleet import ContainerReport, WorkerReport
from qmodal.store.history.statistics import FIELDS, Series
from qmodal.wire.ids import container_id, new_worker_id

FUNCTIONS, DEAD, SCRAPES = 200, 400, 30
PROGRAM = "from qmodal_autoscaler.cli import autoscaler; autoscaler()"
START_SECONDS = 20.0


def _fill(client: Client) -> None:
    """Statistics of all functions, every field of them, and a box whose containers are over."""
    counts = dict.fromkeys(FIELDS, 123456789)
    for number in range(FUNCTIONS):
        changes = {Series("main", f"app-{number}", "function"): counts}
        client.run(client.statistics.add("wk-1", number + 1, changes))
    worker = new_worker_id()
    client.run(client.fleet.enroll(_box(worker)))
    reports = {each.container: each for each in map(_over, [worker] * DEAD, range(1, DEAD + 1))}
    client.run(client.fleet.renew(worker, reports))


def _box(worker: str) -> WorkerReport:
    return WorkerReport(
        worker=worker,
        host="host",
        pid=1,
        cpus=1.0,
        memory=1,
        max_containers=DEAD,
        python="3.11",
        version="0",
    )


def _over(worker: str, number: int) -> ContainerReport:
    return ContainerReport(
        container=container_id(worker, number),
        pool=secrets.token_hex(16),
        app="ap-1",
        function="f",
        label="f",
        number=1,
        state="ended",
        since=int(time.time() * 1000),
        detail="its container was killed by signal 9",
    )


def _scrape(url: str) -> tuple[float, int]:
    """Seconds and bytes; raises OSError."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    began = time.perf_counter()
    with opener.open(url, timeout=10) as response:
        size = len(response.read())
    return time.perf_counter() - began, size


def _first(url: str) -> None:
    """Wait until the leader shows the functions."""
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends:
        try:
            if _scrape(url)[1] > FUNCTIONS * 1000:
                return
        except (OSError, urllib.error.URLError):
            pass
        time.sleep(0.1)
    raise TimeoutError("the autoscaler shows no functions")


def main() -> None:
    """Print the median and the longest of some scrapes, in milliseconds, and the bytes of one."""
    with private_server() as server:
        settings = Settings(redis_url=server.url, signing_key=secrets.token_bytes(32))
        client = Client(settings)
        _fill(client)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        argv = [sys.executable, "-P", "-c", PROGRAM, "--metrics-port", str(port)]
        with subprocess.Popen(
            argv, env={**os.environ, **settings.to_environ()}, stderr=subprocess.DEVNULL
        ) as autoscaler:
            try:
                url = f"http://127.0.0.1:{port}/metrics"
                _first(url)
                found = [_scrape(url) for _ in range(SCRAPES)]
            finally:
                autoscaler.terminate()
        client.close()
    times = [seconds * 1000 for seconds, _ in found]
    print(
        f"{FUNCTIONS} functions, {DEAD} dead containers: median {statistics.median(times):.1f} ms, "
        f"longest {max(times):.1f} ms, {found[-1][1]} bytes"
    )


if __name__ == "__main__":
    main()
