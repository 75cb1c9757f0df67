"""`python -m benchmarks.web`: an app of FastAPI under uvicorn and through a gateway; Linux only."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import memory
from benchmarks.report import Refusal, Results, Sample, circumstances
from benchmarks.web.load import Load, put_load, run_apart
from benchmarks.web.measures import document
from benchmarks.web.program import MOST_AT_ONCE
from benchmarks.web.sides import SINGLE, Side, sides
from benchmarks.web.site import CHUNK

CLIENT = "benchmarks.web.client"
WARM_SECONDS = 1
Figures = Iterator[tuple[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of each; seconds for what is measured by time."""

    seconds: int
    chunks: int
    streams: int
    echoes: int


def many(side: Side, sizes: Sizes) -> Figures:
    """50 connections, with the CPU that a request took of each process."""
    yield from _requests(side, sizes, "many", connections=50)


def one(side: Side, sizes: Sizes) -> Figures:
    """One connection."""
    yield from _requests(side, sizes, "one", connections=1)


def _requests(side: Side, sizes: Sizes, name: str, *, connections: int) -> Figures:
    url = f"{side.url}/hello"
    put_load(url, connections=connections, seconds=WARM_SECONDS)
    before = side.cpu()
    found = put_load(url, connections=connections, seconds=sizes.seconds)
    used = {role: seconds - before[role] for role, seconds in side.cpu().items()}
    _check(found)
    yield f"{name} rate", found.rate
    yield f"{name} p50", found.p50 / 1000
    yield f"{name} p99", found.p99 / 1000
    if name == "many":
        for role, seconds in used.items():
            yield f"cpu {role}", seconds / found.requests * 1e6


def _check(found: Load) -> None:
    if found.failed or not found.requests:
        raise RuntimeError(f"{found.failed} of {found.requests} requests failed")


def download(side: Side, sizes: Sizes) -> Figures:
    """One response of many chunks."""
    url = f"{side.url}/stream?chunks={sizes.chunks}"
    options = ["--count", str(sizes.chunks * len(CHUNK))]
    found = json.loads(run_apart(CLIENT, "download", url, *options))
    yield "download", found["rate"] / 1e6


def events(side: Side, sizes: Sizes) -> Figures:
    """Many streams of events, open at once, and what their connections take of the memory."""
    url = f"{side.url}/events?count=100000"
    options = ["--connections", str(sizes.streams), "--seconds", str(sizes.seconds)]
    command = [sys.executable, "-m", CLIENT, "events", url, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        if not client.stdout.readline():
            raise RuntimeError("not all streams were answered")
        time.sleep(sizes.seconds / 2)
        holder = side.processes.get("gateway", side.processes.get("app", 0))
        resident = memory(holder).get("Rss", 0.0)
        found = json.loads(client.stdout.read())
    for name in ("latest", "p99", "p50"):
        yield f"events {name}", found[name]
    yield "events memory", resident


def echo(side: Side, sizes: Sizes) -> Figures:
    """A websocket."""
    found = json.loads(run_apart(CLIENT, "echo", f"{side.url}/echo", "--count", str(sizes.echoes)))
    yield "echo p50", found["p50"] / 1000
    yield "echo p99", found["p99"] / 1000


# What is measured, and who cannot do it: without @concurrent there is one stream at a time.
WORKLOADS: dict[str, tuple[Callable[[Side, Sizes], Figures], frozenset[str]]] = {
    "many": (many, frozenset()),
    "one": (one, frozenset()),
    "download": (download, frozenset({SINGLE})),
    "events": (events, frozenset({SINGLE})),
    "echo": (echo, frozenset({SINGLE})),
}


def measure(options: argparse.Namespace) -> Results:
    """All rounds; in each, one workload after the other, and in it one side after the other."""
    sizes = Sizes(
        seconds=options.seconds,
        chunks=options.chunks,
        streams=options.streams,
        echoes=options.echoes,
    )
    results = Results()
    with sides() as (version, running):
        shown = {name: str(value) for name, value in vars(options).items()}
        shown["client"] = "wrk" if shutil.which("wrk") else "a client of our own"
        results.circumstances = circumstances(shown, version)
        for number in range(options.rounds):
            for name in options.workloads:
                for side in running:
                    _measure(results, number, name, side, sizes)
    return results


def _measure(results: Results, number: int, name: str, side: Side, sizes: Sizes) -> None:
    work, cannot = WORKLOADS[name]
    if side.name in cannot:
        return
    print(f"round {number + 1}, {name}, {side.name}", file=sys.stderr, flush=True)
    try:
        for figure, value in work(side, sizes):
            results.samples.append(
                Sample(round=number, subject=side.name, measure=figure, value=value)
            )
    except (RuntimeError, json.JSONDecodeError) as error:
        results.refusals.append(
            Refusal(round=number, subject=side.name, workload=name, reason=str(error), failed=True)
        )


def main() -> None:
    """Measure, print, save."""
    options = parse()
    results = measure(options)
    text = document(results)
    print(text)
    results.save(options.out / "web.json")
    (options.out / "web.md").write_text(text, encoding="utf-8")
    print(f"{len(results.samples)} samples are in {options.out / 'web.json'}")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.web", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=3)
    add("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    add("--seconds", type=int, default=5, help="of each load, and of listening to events")
    add("--chunks", type=int, default=8000, help="of 64 KiB, in one response")
    add("--streams", type=int, default=MOST_AT_ONCE, help="of events, open at once")
    add("--echoes", type=int, default=2000, help="messages of a websocket")
    add("--out", type=Path, default=Path("build/benchmark"), help="folder of the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
