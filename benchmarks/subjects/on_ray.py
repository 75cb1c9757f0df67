"""Ray on this machine alone: calls of actors, and tasks where it matters that they are retried."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray

from benchmarks import settings
from benchmarks.shape import RESULT_SECONDS, Aio, Blocking
from benchmarks.tasks import TASKS

STORE_BYTES = 256 << 20
# An actor needs its CPU to be there; its calls are not repeated, and belong to it from the start.
WITH_TASKS = settings.WORKLOAD in {"w2", "w7", "w10"}
CANNOT = {
    "w12": "does not put calls into batches",
    "w11": "is set up here with actors that run one at a time",
    "w6": "has no workers of its own to start",
}


class Box:
    """The actor."""

    def run(self, task: str, value: Any) -> Any:
        """One of the functions."""
        return TASKS[task](value)


def perform(task: str, value: Any) -> Any:
    """The task."""
    return TASKS[task](value)


class Submitting:
    """What both faces share."""

    cannot: Mapping[str, str] = CANNOT

    def start(self) -> None:
        """Start the cluster, and the actors."""
        ray.init(
            num_cpus=settings.WORKERS,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            object_store_memory=STORE_BYTES,
        )
        self._turn = 0
        if WITH_TASKS:
            self._runs = [ray.remote(num_cpus=1)(perform).remote]
        else:
            actor = ray.remote(num_cpus=1)(Box)
            self._boxes = [actor.remote() for _ in range(settings.WORKERS)]
            self._runs = [box.run.remote for box in self._boxes]

    def begin(self, task: str, value: Any) -> Any:
        """Submit to the next in turn."""
        self._turn += 1
        return self._runs[self._turn % len(self._runs)](task, value)


class Subject(Submitting, Blocking):
    """`remote` and `get`."""

    def open(self) -> None:
        self.start()

    def close(self) -> None:
        ray.shutdown()

    def submit(self, task: str, value: Any) -> Any:
        return self.begin(task, value)

    def result(self, handle: Any) -> Any:
        return ray.get(handle, timeout=RESULT_SECONDS)

    def map(self, task: str, values: Sequence[Any]) -> list[Any]:
        found: list[Any] = ray.get([self.begin(task, value) for value in values])
        return found


class AioSubject(Submitting, Aio):
    """Its references, awaited."""

    on_uvloop = False

    async def open(self) -> None:
        self.start()

    async def close(self) -> None:
        ray.shutdown()

    async def submit(self, task: str, value: Any) -> Any:
        return self.begin(task, value)

    async def result(self, handle: Any) -> Any:
        return await handle
