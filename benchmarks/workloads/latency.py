"""Workloads that look at single inputs: W3, W4, W9, W10."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.bench import Bench, CannotError, Meter, median, quantile
from benchmarks.processes import sockets
from benchmarks.shape import Direct, drive
from benchmarks.workloads.throughput import cpu

MEBI = 1 << 20
LONG, SHORT = 2.0, 0.001
LONG_INPUTS = 2
# Before each burst of W10.
PAUSE_SECONDS = 1.0


async def timed_calls(bench: Bench, count: int, *, idle: float = 0.0) -> list[float]:
    """Seconds that each of some calls took, one after the other."""
    subject, taken = bench.subject, []
    for value in range(count):
        if idle:
            await bench.sleep(idle)
        begin = time.perf_counter()
        answer = await subject.call("echo", value)
        taken.append(time.perf_counter() - begin)
        assert answer == value
    return taken


async def w3(bench: Bench) -> None:
    """Sequential calls to a warm, idle container."""
    await _sequential(bench, "call")


async def w3_asyncio(bench: Bench) -> None:
    """The same from asyncio."""
    await _sequential(bench, "asyncio call")


async def _sequential(bench: Bench, measure: str) -> None:
    await bench.start()
    taken = await timed_calls(bench, min(20, bench.sizes.calls))
    count = max(20, min(bench.sizes.calls, int(bench.sizes.seconds / median(taken))))
    with Meter(bench.look) as meter:
        taken = await timed_calls(bench, count)
    bench.emit(f"{measure} p50", median(taken) * 1e6, count=count, **cpu(meter, count))
    bench.emit(f"{measure} p95", quantile(taken, 0.95) * 1e6, count=count)
    bench.emit(f"{measure} p99", quantile(taken, 0.99) * 1e6, count=count)


async def w3_idle(bench: Bench) -> None:
    """Calls after nothing has happened for two seconds."""
    await bench.start()
    taken = await timed_calls(bench, bench.sizes.idle_calls, idle=bench.sizes.idle_seconds)
    bench.emit("idle call p50", median(taken) * 1e6, count=len(taken))


async def w4(bench: Bench) -> None:
    """1 MiB there and back, one after the other."""
    await bench.start()
    payload = os.urandom(MEBI)

    async def work(count: int) -> None:
        for _ in range(count):
            assert await bench.subject.call("echo", payload) == payload

    await work(1)
    begin = time.perf_counter()
    await work(2)
    each = (time.perf_counter() - begin) / 2
    count = max(2, min(bench.sizes.large_calls, int(bench.sizes.seconds / each)))
    with Meter(bench.look) as meter:
        await work(count)
    bench.emit("1 MiB echo", count / meter.seconds, count=count, **cpu(meter, count))


async def w9(bench: Bench) -> None:
    """Many asyncio callers at once, each with one call after the other."""
    await _callers(bench, bench.sizes.callers, "callers")


async def w9_many(bench: Bench) -> None:
    """Ten times as many."""
    await _callers(bench, 10 * bench.sizes.callers, "many callers")


async def _callers(bench: Bench, callers: int, measure: str) -> None:
    await bench.start()
    begin = time.perf_counter()
    await asyncio.gather(*(timed_calls(bench, 1) for _ in range(callers)))
    each = time.perf_counter() - begin
    most = max(1, bench.sizes.calls_each * bench.sizes.callers // callers)
    calls = max(1, min(most, int(bench.sizes.seconds / each)))
    with Meter(bench.look) as meter:
        of_each = await asyncio.gather(*(timed_calls(bench, calls) for _ in range(callers)))
    _emit_callers(bench, measure, meter, of_each)


async def w9_threads(bench: Bench) -> None:
    """Many threads at once, each with one call after the other."""
    if not isinstance(bench.subject, Direct):
        raise CannotError("it has no verbs that block")
    await bench.start()
    callers, begin = bench.sizes.callers, time.perf_counter()
    with ThreadPoolExecutor(callers) as threads:

        def at_once(calls: int) -> list[list[float]]:
            return [*threads.map(lambda _: drive(timed_calls(bench, calls)), range(callers))]

        at_once(1)
        each = time.perf_counter() - begin
        calls = max(1, min(bench.sizes.calls_each, int(bench.sizes.seconds / each)))
        with Meter(bench.look) as meter:
            of_each = at_once(calls)
        _emit_callers(bench, "threads", meter, of_each)


def _emit_callers(
    bench: Bench, measure: str, meter: Meter, of_each: Sequence[Sequence[float]]
) -> None:
    """Calls a second, the slower ones, and the sockets that this process has for them."""
    taken = [seconds for each_one in of_each for seconds in each_one]
    bench.emit(measure, len(taken) / meter.seconds, count=len(taken), **cpu(meter, len(taken)))
    bench.emit(f"{measure} p95", quantile(taken, 0.95) * 1e3, count=len(taken))
    bench.emit(f"{measure} sockets", sockets(os.getpid()))


async def w10(bench: Bench) -> None:
    """Short inputs among long ones: two of 2 s and a burst of 1 ms, on eight containers."""
    await bench.start()
    alone, mixed = [], []
    for _ in range(bench.sizes.bursts):
        alone.append(await _burst(bench, 0))
        mixed.append(await _burst(bench, LONG_INPUTS))
    bench.emit("mixed short p95", median(mixed) * 1e3, alone_ms=median(alone) * 1e3)
    bench.emit("mixed ratio", median(mixed) / median(alone))


async def _burst(bench: Bench, long_inputs: int) -> float:
    """Seconds from the submit until 95 of 100 short inputs have ended, by their own clocks.

    Each burst comes after a pause: the one before it may have left the processes warm, or waited for 2 s.
    """
    await bench.sleep(PAUSE_SECONDS)
    inputs = [SHORT] * bench.sizes.burst
    for number in range(long_inputs):
        inputs.insert((2 * number + 1) * len(inputs) // (2 * LONG_INPUTS), LONG)
    begin = time.time()
    ended = await bench.subject.map("pause", inputs)
    taken = [end - begin for end, given in zip(ended, inputs, strict=True) if given == SHORT]
    return quantile(taken, 0.95)
