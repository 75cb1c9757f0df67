"""Many parameter pools with one input each, alone and beside one pool with a large backlog.

`python -m benchmarks.parameters [--pools 300] [--backlog 0]`: what the turnover takes, and the CPU of each side.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import qmodal
from benchmarks.processes import Crew
from benchmarks.resp import Look
from benchmarks.server import Server, private_server
from qmodal.client import client as clients
from qmodal.client.client import Client

TICKS = os.sysconf("SC_CLK_TCK")
POLL_SECONDS = 0.05
# Pools that are opened and served before the clock starts: the template is loaded then.
WARMUP = 4
# Inputs of the large pool from which it is known how long they take, so that its backlog is packed.
LEARNED = 3000

app = qmodal.App("parameters")


@app.cls()
class Tenant:
    """A pool of its own for every number."""

    number: int = qmodal.parameter()

    @qmodal.method()
    def nothing(self) -> int:
        """Does nothing."""
        return self.number


def tenant(number: int) -> Any:
    """The instance of that number."""
    made: Any = Tenant
    return made(number=number)


@app.function(scaledown_window=2)
def large(value: int) -> int:
    """One input of the pool with the large backlog."""
    return value


@dataclass(slots=True, kw_only=True)
class Figures:
    """What one run has come to. Times in seconds, `..._cpu` in seconds of a processor, by process.

    `worker_cpu` is of the worker alone, `container_cpu` of its containers and templates. `large_first`: when the large pool
    had its first container, after it was submitted; `large_done`: how many of its inputs had ended when the small pools
    were through, and `large_seconds` when all had.
    """

    pools: int
    seconds: float = 0.0
    submitted: float = 0.0
    autoscaler_cpu: float = 0.0
    worker_cpu: float = 0.0
    container_cpu: float = 0.0
    server_cpu: float = 0.0
    commands: int = 0
    backlog: int = 0
    large_first: float = 0.0
    large_done: int = 0
    large_seconds: float = 0.0

    @property
    def autoscaler_share(self) -> float:
        """How much of a processor the autoscaler takes, in percent."""
        return self.autoscaler_cpu / self.seconds * 100

    @property
    def rate(self) -> float:
        """Pools a second."""
        return self.pools / self.seconds


def used(pid: int) -> tuple[float, float]:
    """Seconds of CPU of a process, and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, child_user, child_system = map(int, fields[11:15])
    return (user + system) / TICKS, (child_user + child_system) / TICKS


class Meter:
    """The CPU of the processes of a stack, and the commands of its server, since the meter was made."""

    def __init__(self, look: Look, autoscaler: int, worker: int) -> None:
        self._look, self._autoscaler, self._worker = look, autoscaler, worker
        look.ask("CONFIG", "RESETSTAT")
        self._before = self._read()

    def _read(self) -> Mapping[str, float]:
        worker, containers = used(self._worker)
        return {
            "autoscaler_cpu": used(self._autoscaler)[0],
            "worker_cpu": worker,
            "container_cpu": containers,
            "server_cpu": self._look.cpu(),
        }

    def read_into(self, figures: Figures) -> None:
        """Write what was used meanwhile."""
        for name, value in self._read().items():
            setattr(figures, name, round(value - self._before[name], 3))
        figures.commands = int(self._look.info("stats")["total_commands_processed"])


@contextmanager
def stack() -> Iterator[tuple[int, int]]:
    """An autoscaler and a worker; their pids."""
    program = (sys.executable, "-P", "-m", "qmodal")
    crew = Crew([(*program, "autoscaler"), (*program, "worker")])
    crew.start()
    try:
        autoscaler, worker = crew.pids()
        yield autoscaler, worker
    finally:
        crew.stop()


def measure(server: Server, pools: int, backlog: int) -> Figures:
    """One run on an empty server."""
    os.environ["QMODAL_REDIS_URL"] = server.url
    os.environ.setdefault("QMODAL_SIGNING_KEY", secrets.token_hex(32))
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    look = Look(server.unix_url)
    with stack() as (autoscaler, worker):
        figures = turn_over(look, autoscaler, worker, pools=pools, backlog=backlog)
    look.close()
    return figures


def turn_over(look: Look, autoscaler: int, worker: int, *, pools: int, backlog: int) -> Figures:
    """Run the app on these processes; the template is loaded, and what an input of `large` takes is known."""
    with app.run():
        for number in range(WARMUP):
            assert tenant(-number).nothing.remote() == -number
        if backlog:
            assert len(list(large.map(range(LEARNED)))) == LEARNED
            while large.get_current_stats().num_total_runners:
                time.sleep(POLL_SECONDS)
        figures = Figures(pools=pools, backlog=backlog)
        meter = Meter(look, autoscaler, worker)
        begin = time.perf_counter()
        calls = [tenant(number).nothing.spawn() for number in range(1, pools + 1)]
        figures.submitted = time.perf_counter() - begin
        beside = Beside(backlog)
        for number, call in enumerate(calls, 1):
            assert call.get() == number
        figures.seconds = time.perf_counter() - begin
        meter.read_into(figures)
        beside.read_into(figures)
    return figures


class Beside:
    """The pool with a large backlog: submitted by a thread while others wait, and watched by another one."""

    def __init__(self, backlog: int) -> None:
        self._backlog = backlog
        self._begin = time.perf_counter()
        self._done = 0
        self._first = self._seconds = 0.0
        self._threads = [
            threading.Thread(target=each, daemon=True) for each in (self._submit, self._watch)
        ]
        for thread in self._threads if backlog else []:
            thread.start()

    def _submit(self) -> None:
        large.spawn_map(range(self._backlog))

    def _watch(self) -> None:
        client = Client(clients.current().settings)
        pool = large.object_id.removeprefix("fu-")
        while self._done < self._backlog:
            (seen,) = client.run(client.observing.observe([pool]))
            self._done = 0 if seen is None else seen.submitted - seen.inflight - LEARNED
            now = time.perf_counter() - self._begin
            if self._done > 0 and not self._first:
                self._first = now
            self._seconds = now
            time.sleep(POLL_SECONDS)
        client.close()

    def read_into(self, figures: Figures) -> None:
        """Write how far it is now, and wait until all of it has ended."""
        figures.large_done = self._done
        for thread in self._threads if self._backlog else []:
            thread.join()
        figures.large_first, figures.large_seconds = self._first, self._seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parameters", description=__doc__)
    parser.add_argument("--pools", type=int, default=300)
    parser.add_argument("--backlog", type=int, default=0)
    options = parser.parse_args()
    with private_server() as server:
        figures = measure(server, options.pools, options.backlog)
    print(json.dumps(asdict(figures)))
    share = figures.autoscaler_share
    print(f"{figures.rate:.1f} pools a second, the autoscaler at {share:.0f} % of a processor")


if __name__ == "__main__":
    main()
