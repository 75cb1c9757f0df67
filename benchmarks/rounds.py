"""How long a leader's rounds take while many pools are active: `python -m benchmarks.rounds [--pools 200]`.

Every pool has a container, and gets an input again and again; the autoscaler itself says how long its rounds took.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
import time
import urllib.request
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

import qmodal
from benchmarks.parameters import Figures, Meter
from benchmarks.processes import Crew
from benchmarks.resp import Look
from benchmarks.server import free_port, private_server

# What an input takes, and the pause of a caller between two of them: half of the pools run one at any moment.
RUN_SECONDS, PAUSE_SECONDS = 0.5, 0.5
# Before the clock starts, when all pools have their container.
CALM_SECONDS = 5.0
# Rounds over all pools, and those over the pools for which there was a hint or whose moment had come.
KINDS = ("all", "due")
SHARES = (0.5, 0.95, 0.99)
Buckets = Mapping[float, float]

app = qmodal.App("rounds")


@app.cls(scaledown_window=600)
class Tenant:
    """A pool of its own for every number."""

    number: int = qmodal.parameter()

    @qmodal.method()
    def work(self) -> int:
        """Takes its time, but no processor."""
        time.sleep(RUN_SECONDS)
        return self.number


async def calls(number: int, until: float) -> int:
    """Calls the pool of that number until that moment; returns how often."""
    made: Any = Tenant
    tenant, count = made(number=number), 0
    while time.monotonic() < until:
        assert await tenant.work.remote.aio() == number
        count += 1
        await asyncio.sleep(PAUSE_SECONDS)
    return count


async def all_calls(pools: int, seconds: float) -> int:
    """Calls all pools for so long; returns how many calls there were."""
    until = time.monotonic() + seconds
    return sum(await asyncio.gather(*(calls(number, until) for number in range(pools))))


def rounds(port: int) -> dict[str, Buckets]:
    """The leader's histogram of its rounds so far, by their kind: end of a bucket → rounds up to it."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        families = list(text_string_to_metric_families(response.read().decode()))
    found: dict[str, dict[float, float]] = {kind: {} for kind in KINDS}
    for sample in (each for family in families for each in family.samples):
        if sample.name == "qmodal_round_seconds_bucket":
            found[sample.labels["pools"]][float(sample.labels["le"])] = sample.value
    return dict(found)


def between(before: Buckets, after: Buckets) -> dict[float, float]:
    """The rounds between two readings."""
    return {end: count - before[end] for end, count in after.items()}


def quantile(buckets: Buckets, share: float) -> float:
    """The seconds that so large a share of the rounds took at most, as Prometheus computes it."""
    ends = sorted(buckets.items())
    wanted = share * ends[-1][1]
    for (low, fewer), (high, more) in pairwise([(0.0, 0.0), *ends]):
        if more >= wanted and more > fewer:
            return low + (min(high, 10.0) - low) * (wanted - fewer) / (more - fewer)
    return float("nan")


def within(buckets: Buckets, seconds: float) -> float:
    """The share of the rounds that took at most so long; a bucket ends there."""
    return buckets[seconds] / max(1.0, max(buckets.values()))


def measure(pools: int, seconds: float) -> list[str]:
    """One run on an empty server, as lines to print."""
    port, program = free_port(), (sys.executable, "-P", "-m", "qmodal")
    crew = Crew(
        [
            (*program, "autoscaler", "--metrics-port", str(port)),
            (*program, "worker", "--max-containers", str(pools + 50)),
        ]
    )
    with private_server() as server:
        os.environ["QMODAL_REDIS_URL"] = server.url
        os.environ.setdefault("QMODAL_SIGNING_KEY", secrets.token_hex(32))
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
        crew.start()
        look = Look(server.unix_url)
        try:
            with app.run():
                asyncio.run(all_calls(pools, CALM_SECONDS))
                meter, figures = Meter(look, *crew.pids()), Figures(pools=pools)
                before = rounds(port)
                began = time.monotonic()
                made = asyncio.run(all_calls(pools, seconds))
                figures.seconds = time.monotonic() - began
                meter.read_into(figures)
                after = rounds(port)
        finally:
            look.close()
            crew.stop()
    return [
        f"{pools} pools, {made / figures.seconds:.0f} inputs a second, the autoscaler at "
        f"{figures.autoscaler_share:.0f} % of a processor, load {os.getloadavg()[0]:.1f}",
        *(_line(kind, between(before[kind], after[kind])) for kind in KINDS),
    ]


def _line(kind: str, buckets: Buckets) -> str:
    found = [f"p{share * 100:.0f} {quantile(buckets, share) * 1000:.1f} ms" for share in SHARES]
    return f"{kind}: {buckets[float('inf')]:.0f} rounds, {', '.join(found)}, {within(buckets, 0.02):.1%} within 20 ms"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rounds", description=__doc__)
    parser.add_argument("--pools", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    print("\n".join(measure(options.pools, options.seconds)))


if __name__ == "__main__":
    main()
