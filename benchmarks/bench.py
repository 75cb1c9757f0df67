"""One subject at one workload: started, warm, measured, and its figures written as lines."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TextIO

from benchmarks import settings
from benchmarks.processes import Crew, cpu_seconds, descendants
from benchmarks.resp import Look
from benchmarks.shape import AioSubject, sleep

START_SECONDS = 30.0
# A few inputs say little where something waits for the next poll: more, until it takes a while.
PILOT, PILOT_GROWTH = 50, 6


class CannotError(Exception):
    """The subject has no way to do the workload; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of each workload; `scale` makes all of it smaller."""

    one_by_one: int = 10_000
    bulk: int = 30_000
    calls: int = 2_000
    idle_calls: int = 5
    idle_seconds: float = 2.0
    large_calls: int = 60
    mapped: int = 10_000
    repeats: int = 3
    starts: int = 10
    kills: int = 5
    long_map: int = 100_000
    callers: int = 50
    calls_each: int = 60
    naps: int = 12_000
    batch_callers: int = 64
    bursts: int = 5
    burst: int = 100
    pools: int = 300
    many_pools: int = 3_000
    backlog: int = 1_000_000
    # Seconds: slow subjects do fewer inputs rather than take longer than about this.
    seconds: float = 6.0
    # Seconds until an input of a killed worker counts as not coming again.
    patience: float = 20.0

    def scaled(self, scale: float) -> Sizes:
        """The same with counts times `scale`, never under what still gives a figure."""
        least = {
            "calls": 20,
            "burst": 20,
            "callers": 4,
            "batch_callers": 64,
            "naps": 400,
            "pools": 8,
            "many_pools": 16,
            "backlog": 1000,
            "mapped": 100,
            "long_map": 100,
        }
        whole = {
            name: max(least.get(name, 1), int(value * scale))
            for name, value in asdict(self).items()
            if isinstance(value, int)
        }
        return Sizes(
            **whole,
            idle_seconds=min(self.idle_seconds, max(0.1, self.idle_seconds * scale * 20)),
            seconds=max(0.5, self.seconds * scale),
            patience=max(3.0, self.patience * scale),
        )


@dataclass(slots=True)
class Bench:
    """What a workload works with."""

    subject: AioSubject
    # The module's own object, for what only some subjects have.
    own: Any
    sizes: Sizes
    out: TextIO
    look: Look | None
    runs_unpacked: bool = True
    crew: Crew = field(init=False)

    def __post_init__(self) -> None:
        self.crew = Crew(self.subject.commands())

    def emit(self, measure: str, value: float, **more: Any) -> None:
        """Write one figure."""
        self._line({"measure": measure, "value": value, **more})

    def say(self, **more: Any) -> None:
        """Write one line that is not a figure."""
        self._line(more)

    def _line(self, content: dict[str, Any]) -> None:
        self.out.write(json.dumps(content) + "\n")
        self.out.flush()

    async def start(self) -> None:
        """Connect, start the workers, and wait until each has run something."""
        await self.subject.open()
        self.crew.start()
        if settings.WORKERS:
            await self._until_all_work()
            await self.subject.map("echo", range(200 if await self._is_fast() else 5))

    async def _until_all_work(self) -> None:
        """A worker that still starts would make the first inputs of a measurement wait."""
        seen: set[int] = set()
        ends = time.monotonic() + START_SECONDS
        least = settings.WORKERS
        while len(seen) < least:
            if time.monotonic() > ends:
                raise TimeoutError(f"{len(seen)} of {least} workers began within {START_SECONDS} s")
            seen |= set(await self.subject.map("whoami", [0.02] * (2 * least)))

    async def _is_fast(self) -> bool:
        begin = time.perf_counter()
        await self.subject.call("echo", 0)
        return time.perf_counter() - begin < 0.05

    async def stop(self) -> None:
        """Disconnect and end the workers."""
        try:
            await self.subject.close()
        finally:
            self.crew.stop()
            if self.look is not None:
                self.look.close()

    async def count(self, wanted: int, pilot: Callable[[int], Any]) -> int:
        """How many of the wanted inputs this subject does in about the time that is meant."""
        few = min(wanted, PILOT)
        while True:
            begin = time.perf_counter()
            await pilot(few)
            taken = time.perf_counter() - begin
            if few == wanted or taken > self.sizes.seconds / 10:
                return max(few, min(wanted, int(few * self.sizes.seconds / taken)))
            few = min(wanted, few * PILOT_GROWTH)

    async def sleep(self, seconds: float) -> None:
        """Leave everything alone for a while."""
        await sleep(self.subject, seconds)


class Meter:
    """Seconds, and the CPU of the three sides, between `with` and its end."""

    def __init__(self, look: Look | None) -> None:
        self._look = look
        self.seconds = 0.0
        self.client = self.workers = self.server = 0.0

    def __enter__(self) -> Meter:
        self._before = self._read()
        self._begin = time.perf_counter()
        return self

    def __exit__(self, *_failure: object) -> None:
        self.seconds = time.perf_counter() - self._begin
        differences = zip(self._read(), self._before, strict=True)
        self.client, self.workers, self.server = (now - then for now, then in differences)

    def _read(self) -> tuple[float, float, float]:
        server = 0.0 if self._look is None else self._look.cpu()
        return time.process_time(), cpu_seconds(descendants(os.getpid())), server


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share of all lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def divert_stdout() -> TextIO:
    """The real standard output; whatever else prints goes to standard error from now on."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return out
