"""Ten pools that want twenty GPUs of a box that declares eight: how fairly they share them, and whether one is used twice.

`python -m benchmarks.gpus [--seconds 60] [--input 0.5]`: no GPU is needed, as the box only says that it has some.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import qmodal
from benchmarks.processes import Crew
from benchmarks.server import private_server

POOLS, GPUS = 10, 8

app = qmodal.App("gpus")


@app.cls(gpu="L4", max_containers=2)
class Tenant:
    """A pool of its own for every number."""

    number: int = qmodal.parameter()

    @qmodal.method()
    def use(self, seconds: float, ends: float) -> tuple[int, str, float, float] | None:
        """Keep the GPU for so long; which it was, and from when to when. None if nobody waits for it any more."""
        begin = time.time()
        if begin > ends:
            return None
        time.sleep(seconds)
        return self.number, os.environ["CUDA_VISIBLE_DEVICES"], begin, time.time()


def tenant(number: int) -> Any:
    """The instance of that number."""
    made: Any = Tenant
    return made(number=number)


@contextmanager
def stack() -> Iterator[None]:
    """An autoscaler and a worker that declares GPUs."""
    program = (sys.executable, "-P", "-m", "qmodal")
    crew = Crew([(*program, "autoscaler"), (*program, "worker", "--gpus", f"{GPUS}xL4")])
    crew.start()
    try:
        yield
    finally:
        crew.stop()


def measure(seconds: float, each: float) -> list[tuple[int, str, float, float]]:
    """What every input has used, in a run of so many seconds with inputs that take `each`."""
    with app.run():
        ends = time.time() + seconds
        count = int(2 * seconds / each)
        calls = [
            tenant(number).use.spawn_map([each] * count, [ends] * count) for number in range(POOLS)
        ]
        found = [one for call in calls for one in call.iter()]
    return [one for one in found if one is not None]


def jain(values: Sequence[float]) -> float:
    """Jain's index: 1 if all have the same, 1/n if one has everything."""
    return sum(values) ** 2 / (len(values) * sum(each**2 for each in values))


def collisions(uses: Sequence[tuple[int, str, float, float]]) -> int:
    """How many inputs have used a GPU before the one before them had ended."""
    by_gpu: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for _, gpu, begin, end in uses:
        by_gpu[gpu].append((begin, end))
    ordered = map(sorted, by_gpu.values())
    return sum(later[0] < before[1] for one in ordered for before, later in pairwise(one))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpus", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--input", type=float, default=0.5)
    options = parser.parse_args()
    os.environ.setdefault("QMODAL_SIGNING_KEY", secrets.token_hex(32))
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    with private_server() as server:
        os.environ["QMODAL_REDIS_URL"] = server.url
        with stack():
            uses = measure(options.seconds, options.input)
    used = [0.0] * POOLS
    for number, _, begin, end in uses:
        used[number] += end - begin
    busy = sum(used) / (GPUS * options.seconds)
    print(f"seconds of a GPU by pool: {', '.join(f'{each:.1f}' for each in used)}")
    print(f"Jain {jain(used):.3f}, GPUs busy {busy:.0%}, used twice at once {collisions(uses)}")


if __name__ == "__main__":
    main()
