"""`python -m benchmarks.profile`: where the time of a call goes, in µs by stage and by process."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.processes import Crew, cpu_seconds
from benchmarks.report import table
from benchmarks.resp import Look
from benchmarks.server import Server, private_server

SIDES = ("client", "server", "container")
# Commands that a call sends; what scripts call is counted again under its own name.
SENT = ("evalsha", "fcall", "xread", "xreadgroup", "unlink")
MAPPED = 100


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--unix", action="store_true", help="over a Unix socket, not loopback TCP")
    options = parser.parse_args()
    with private_server() as server:
        profile(server, server.unix_url if options.unix else server.url, options.calls)


def profile(server: Server, url: str, calls: int) -> None:
    """Both tables: a call's stages, and the CPU of the three processes."""
    os.environ |= {"BENCHMARK_URL": url, "BENCHMARK_WORKERS": "1"}
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    # They read those variables when they are imported.
    on_qmodal: Any = importlib.import_module("benchmarks.subjects.on_qmodal")
    try:
        stages: Any = importlib.import_module("benchmarks.stages")
    except ImportError as error:
        sys.exit(f"a stage has gone: {error}; say in benchmarks/stages.py what has its place now")
    subject, look = on_qmodal.Subject(), Look(server.unix_url)
    subject.open()
    crew = Crew(subject.commands())
    try:
        costs = taken_apart(stages, on_qmodal, look, calls)
        crew.start()
        rows, whole = whole_calls(subject, look, calls)
    finally:
        subject.close()
        crew.stop()
        look.close()
    print(f"A call, µs; {calls} calls, the median {whole:.1f}. `wake` is what no stage explains:")
    print("processes waking up, and the kernel's part of their sockets.\n")
    print(stage_table(stages.STAGES, costs, whole))
    print("\nCPU, µs for each call\n")
    print(table(rows))


def taken_apart(stages: Any, on_qmodal: Any, look: Look, calls: int) -> dict[Any, float]:
    """The stages of calls to a pool that this process serves itself, as no worker runs yet."""
    from qmodal.client.client import current

    on_qmodal.perform.spawn("echo", 0).cancel()
    pool = on_qmodal.perform.object_id.removeprefix("fu-")
    cycle = stages.Cycle(current(), pool)
    look.ask("CONFIG", "RESETSTAT")
    costs: dict[Any, float] = cycle.run(calls)
    spent = look.commands()
    costs["server", "server"] = sum(spent[name][1] for name in SENT if name in spent) / calls
    return costs


def whole_calls(subject: Any, look: Look, calls: int) -> tuple[list[list[str]], float]:
    """The CPU of calls and of a map, by process; and the median µs of a call."""
    container = subject.call("whoami", 0.0)
    subject.map("echo", range(calls))
    taken: list[float] = []

    def sequential() -> None:
        for value in range(calls):
            begin = time.perf_counter()
            subject.call("echo", value)
            taken.append((time.perf_counter() - begin) * 1e6)

    rows = [["", *SIDES]]
    rows.append(["call", *_cpu(sequential, look, container, calls)])
    count = calls * MAPPED // 10
    rows.append(["map", *_cpu(lambda: subject.map("echo", range(count)), look, container, count)])
    return rows, median(taken)


def _cpu(work: Any, look: Look, container: int, count: int) -> list[str]:
    def read() -> tuple[float, float, float]:
        return time.process_time(), look.cpu(), cpu_seconds([container])

    before = read()
    work()
    return [f"{(now - then) / count * 1e6:.1f}" for now, then in zip(read(), before, strict=True)]


def stage_table(stages: Sequence[str], costs: Mapping[tuple[str, str], float], whole: float) -> str:
    """A row a stage, a column a process; the last row adds them up."""
    rows = [["stage", *SIDES, "between"]]
    for stage in stages:
        figures = [costs.get((stage, side)) for side in SIDES]
        cells = ["" if figure is None else f"{figure:.1f}" for figure in figures]
        between = f"{whole - sum(costs.values()):.1f}" if stage == "wake" else ""
        rows.append([stage, *cells, between])
    sums = [sum(cost for (_, on), cost in costs.items() if on == side) for side in SIDES]
    rows.append(["sum", *(f"{each:.1f}" for each in sums), f"{whole - sum(sums):.1f}"])
    return table(rows)


if __name__ == "__main__":
    main()
