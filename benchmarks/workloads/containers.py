"""Workloads about the processes that run inputs: W6 and W7."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.bench import Bench, CannotError, median, quantile
from benchmarks.processes import descendants, memory, private, rows

INTO_THE_INPUT = 0.5


async def w6(bench: Bench) -> None:
    """Memory of a container, and the time from a cold start to the first result."""
    if hasattr(bench.own, "cold_starts"):
        await bench.start()
        await _emit_memory(bench)
        await bench.own.cold_starts(bench)
        return
    await bench.subject.open()
    taken: list[float] = []
    for number in range(bench.sizes.starts):
        handle = await bench.subject.submit("echo", number)
        begin = time.perf_counter()
        bench.crew.start()
        assert await bench.subject.result(handle) == number
        taken.append(time.perf_counter() - begin)
        if number + 1 < bench.sizes.starts:
            bench.crew.stop()
    emit_starts(bench, "cold start", taken)
    await _emit_memory(bench)


def emit_starts(bench: Bench, measure: str, taken: list[float]) -> None:
    """Milliseconds until the first result."""
    bench.emit(f"{measure} p50", median(taken) * 1e3, count=len(taken))
    bench.emit(f"{measure} p95", quantile(taken, 0.95) * 1e3, count=len(taken))


async def _emit_memory(bench: Bench) -> None:
    await bench.subject.map("echo", range(20))
    (container,) = set(await bench.subject.map("whoami", [0.0]))
    everything = rows(descendants(os.getpid()), container)
    if not memory(container):
        raise CannotError("memory is read from /proc, which is not here")
    bench.emit("container memory", private(container))
    total = sum(row.pss for row in everything)
    bench.emit("all memory", total, processes=[asdict(row) for row in everything])


async def w7(bench: Bench) -> None:
    """kill -9 of the process that runs an input: how long until it runs again."""
    await bench.start()
    taken: list[float] = []
    for _ in range(bench.sizes.kills):
        with tempfile.TemporaryDirectory() as folder:
            taken.append(await _kill(bench, Path(folder) / "marks"))
    bench.emit("again after kill", max(taken), count=len(taken), median=median(taken))


async def _kill(bench: Bench, marks: Path) -> float:
    handle = await bench.subject.submit("mark", str(marks))
    while not (started := _lines(marks, "start")):
        await bench.sleep(0.01)
    await bench.sleep(INTO_THE_INPUT)
    killed = time.time()
    os.kill(int(started[0][2]), signal.SIGKILL)
    ends = killed + bench.sizes.patience
    while len(started) < 2:
        if time.time() > ends:
            raise CannotError(f"does not run it again within {bench.sizes.patience:g} s")
        await bench.sleep(0.005)
        bench.crew.start_again()
        started = _lines(marks, "start")
    assert await bench.subject.result(handle) == 42
    assert len(_lines(marks, "end")) == 1, "it ended more than once"
    return float(started[1][1]) - killed


def _lines(marks: Path, word: str) -> list[list[str]]:
    lines: list[str] = []
    with contextlib.suppress(FileNotFoundError):
        lines = marks.read_text(encoding="utf-8").splitlines()
    return [line.split() for line in lines if line.startswith(word)]
