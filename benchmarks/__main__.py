"""`python -m benchmarks`: qmodal beside a bare socket, in interleaved rounds on one server."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from benchmarks.raw import raw_loop
from benchmarks.report import Results, Sample
from benchmarks.subject import private_stack, subject


class Contender(Protocol):
    """What is measured."""

    name: str

    def call(self, value: int) -> int: ...
    def submit(self, value: int) -> None: ...
    def collect(self, count: int) -> list[int]: ...
    def map(self, count: int) -> list[int]: ...


def main() -> None:
    """Measure, print, save."""
    options = parse()
    samples: list[Sample] = []
    with private_stack() as stack:
        path = stack.url.removeprefix("unix://").partition("?")[0]
        with raw_loop(path) as limit, subject() as measured:
            contenders: tuple[Contender, ...] = (limit, measured)
            for contender in contenders:  # a round that nobody counts: caches, scripts, imports
                list(measure_all(contender, calls=50, inputs=500))
            for number in range(options.rounds):
                for contender in contenders:
                    figures = measure_all(contender, calls=options.calls, inputs=options.inputs)
                    samples += [
                        Sample(round=number, subject=contender.name, measure=name, value=value)
                        for name, value in figures
                    ]
    results = Results(samples, limit=limit.name)
    print(results.table())
    results.save(options.json)
    print(f"{len(samples)} samples of {options.rounds} rounds are in {options.json}")


def measure_all(contender: Contender, *, calls: int, inputs: int) -> Iterator[tuple[str, float]]:
    """Every figure of one round, by name."""
    latencies = sorted(latency(contender, value) for value in range(calls))
    yield "remote p50", latencies[calls // 2] * 1e6
    yield "remote p95", latencies[calls * 95 // 100] * 1e6
    yield "spawn", spawn_rate(contender, inputs)
    yield "map", map_rate(contender, inputs)


def latency(contender: Contender, value: int) -> float:
    """Seconds that one call takes, from its caller's side."""
    begin = time.perf_counter()
    answer = contender.call(value)
    elapsed = time.perf_counter() - begin
    assert answer == value
    return elapsed


def spawn_rate(contender: Contender, count: int) -> float:
    """Accepted calls a second, one after the other; their results are read off the clock."""
    begin = time.perf_counter()
    for value in range(count):
        contender.submit(value)
    elapsed = time.perf_counter() - begin
    assert sorted(contender.collect(count)) == list(range(count))
    return count / elapsed


def map_rate(contender: Contender, count: int) -> float:
    """Inputs a second from the first submit to the last result."""
    begin = time.perf_counter()
    answers = contender.map(count)
    elapsed = time.perf_counter() - begin
    assert answers == list(range(count))
    return count / elapsed


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=500, help="sequential calls a round")
    parser.add_argument("--inputs", type=int, default=3000, help="spawned, then mapped, a round")
    parser.add_argument("--json", type=Path, default=Path("build/benchmark.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
