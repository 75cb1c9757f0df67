"""Workloads that count inputs a second: W1, W2, W5, W8, and what they cost the server."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from benchmarks import settings
from benchmarks.bench import Bench, CannotError, Meter, median
from benchmarks.shape import AioSubject

MILLISECOND = 0.001
# From this many times the ideal time on, less than the whole map will do.
WASTEFUL = 2.5


async def one_by_one(subject: AioSubject, count: int) -> None:
    """Submit one after the other, then take one result after the other."""
    handles = [await subject.submit("echo", value) for value in range(count)]
    assert [await subject.result(handle) for handle in handles] == list(range(count))


async def mapped(subject: AioSubject, count: int) -> None:
    """All results in order, in the best way that the subject has."""
    assert await subject.map("echo", range(count)) == list(range(count))


async def w1(bench: Bench) -> None:
    """No-ops one entry at a time, in one container that runs one at a time."""
    await bench.start()
    await rate(bench, "one by one", bench.sizes.one_by_one, lambda n: one_by_one(bench.subject, n))


async def w1_best(bench: Bench) -> None:
    """No-ops in bulk, in one container at its best concurrency."""
    await bench.start()
    await rate(bench, "bulk", bench.sizes.bulk, lambda n: mapped(bench.subject, n))


async def rate(
    bench: Bench, measure: str, wanted: int, work: Callable[[int], Awaitable[None]]
) -> None:
    """Inputs a second, with the CPU that each side spent on one."""
    count = await bench.count(wanted, work)
    with Meter(bench.look) as meter:
        await work(count)
    bench.emit(measure, count / meter.seconds, count=count, **cpu(meter, count))


def cpu(meter: Meter, count: int) -> dict[str, float]:
    """µs of CPU for each input, by side."""
    return {
        "client_us": meter.client / count * 1e6,
        "workers_us": meter.workers / count * 1e6,
        "server_us": meter.server / count * 1e6,
    }


async def w2(bench: Bench) -> None:
    """Submit only: no worker runs."""
    await bench.start()

    async def loop(count: int) -> None:
        # Dropping a handle costs some subjects a command.
        kept = [await bench.subject.submit("echo", value) for value in range(count)]
        assert len(kept) == count

    async def bulk(count: int) -> None:
        assert len(await bench.subject.submit_many("echo", range(count))) == count

    await rate(bench, "submit", bench.sizes.one_by_one, loop)
    await rate(bench, "submit bulk", bench.sizes.bulk, bulk)


async def w5(bench: Bench) -> None:
    """An ordered map on two containers."""
    await bench.start()
    figures = ("map",) if bench.runs_unpacked else ("map", "map unpacked")
    await _repeated_map(bench, *figures)


async def w5_unpacked(bench: Bench) -> None:
    """The same with one input an entry, for subjects that would put several into one."""
    await bench.start()
    await _repeated_map(bench, "map unpacked")


async def _repeated_map(bench: Bench, *measures: str) -> None:
    count = await bench.count(bench.sizes.mapped, lambda n: mapped(bench.subject, n))
    await mapped(bench.subject, count)
    rates: list[float] = []
    budget = bench.sizes.seconds
    while len(rates) < bench.sizes.repeats and budget > 0:
        with Meter(bench.look) as meter:
            await mapped(bench.subject, count)
        rates.append(count / meter.seconds)
        budget -= meter.seconds
    for measure in measures:
        bench.emit(measure, median(rates), count=count, repeats=len(rates))


async def w8(bench: Bench) -> None:
    """A long map of short inputs: how much of the containers' time is their inputs'."""
    await bench.start()
    subject = bench.subject

    async def work(count: int) -> None:
        assert len(await subject.map("pause", [MILLISECOND] * count)) == count

    ideal = MILLISECOND / settings.WORKERS
    begin = time.perf_counter()
    few = 100
    await work(few)
    each = (time.perf_counter() - begin) / few
    count = bench.sizes.long_map
    if each > WASTEFUL * ideal:
        count = max(few, min(count, int(bench.sizes.seconds / each)))
    with Meter(bench.look) as meter:
        await work(count)
    bench.emit("efficiency", ideal * count / meter.seconds * 100, count=count, **cpu(meter, count))


async def cost(bench: Bench) -> None:
    """The server's CPU for a no-op in a map, and its memory for a finished call that is kept."""
    if bench.look is None:
        raise CannotError("it uses no server")
    await bench.start()
    subject = bench.subject
    count = await bench.count(bench.sizes.bulk, lambda n: mapped(subject, n))
    with Meter(bench.look) as meter:
        await mapped(subject, count)
    bench.emit("server cpu", meter.server / count * 1e6, count=count, **cpu(meter, count))
    if "kept" in subject.cannot:
        return
    count = await bench.count(bench.sizes.one_by_one, lambda n: one_by_one(subject, n))
    before = bench.look.memory()
    handles = [await subject.submit("echo", value) for value in range(count)]
    # One container takes them in order: when the last has ended, all have.
    await subject.result(handles[-1])
    bench.emit("server memory", (bench.look.memory() - before) / count, count=count)
