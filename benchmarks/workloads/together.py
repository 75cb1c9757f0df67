"""Workloads of inputs that run together: W11, many at once in one container, and W12, in batches."""

from __future__ import annotations

import asyncio

from benchmarks.bench import Bench, Meter
from benchmarks.tasks import BATCH_SECONDS, BATCH_SIZE, NAP_SECONDS
from benchmarks.workloads.throughput import cpu

AT_ONCE = 100


async def w11(bench: Bench) -> None:
    """A long backlog of coroutines that sleep 50 ms, a hundred at once in one container."""
    await bench.start()
    subject = bench.subject

    async def work(count: int) -> None:
        assert await subject.map("nap", range(count)) == list(range(count))

    await work(AT_ONCE)
    count = await bench.count(bench.sizes.naps, work)
    with Meter(bench.look) as meter:
        await work(count)
    ideal = NAP_SECONDS * count / AT_ONCE
    bench.emit("at once", ideal / meter.seconds * 100, count=count, **cpu(meter, count))


async def w12(bench: Bench) -> None:
    """Callers of a function that takes 5 ms for up to 32 inputs, twice as many as fit."""
    await bench.start()
    callers = bench.sizes.batch_callers

    async def calls(count: int) -> list[int]:
        return [await bench.subject.call("batch", number) for number in range(count)]

    async def work(count: int) -> list[int]:
        of_each = await asyncio.gather(*(calls(count) for _ in range(callers)))
        return [size for each in of_each for size in each]

    await work(5)
    each = max(5, bench.sizes.calls_each)
    with Meter(bench.look) as meter:
        sizes = await work(each)
    count = len(sizes)
    batches = sum(1 / size for size in sizes)
    ideal = count / BATCH_SIZE * BATCH_SECONDS
    bench.emit("batch fill", count / batches / BATCH_SIZE * 100, count=count)
    bench.emit("batches", ideal / meter.seconds * 100, count=count, **cpu(meter, count))
