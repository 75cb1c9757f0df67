"""The standard library's ProcessPoolExecutor: no network and no server, and nothing survives it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from benchmarks import settings
from benchmarks.shape import Aio, Blocking
from benchmarks.tasks import TASKS

CHUNK = 100
CANNOT = {
    "w6": "has no workers of its own to start",
    "w12": "does not put calls into batches",
    "w11": "runs one at a time in each process",
    "cost": "has no server",
}


def _executor() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(max(1, settings.WORKERS), mp_context=get_context("forkserver"))


class Subject(Blocking):
    """`submit` and `map`."""

    cannot: Mapping[str, str] = CANNOT

    def open(self) -> None:
        self._executor = _executor()

    def close(self) -> None:
        self._executor.shutdown()

    def submit(self, task: str, value: Any) -> Future[Any]:
        return self._executor.submit(TASKS[task], value)

    def result(self, handle: Future[Any]) -> Any:
        return handle.result()

    def map(self, task: str, values: Sequence[Any]) -> list[Any]:
        chunk = CHUNK if settings.AT_ITS_BEST and task == "echo" else 1
        return list(self._executor.map(TASKS[task], values, chunksize=chunk))


class AioSubject(Aio):
    """Its futures, awaited."""

    cannot: Mapping[str, str] = CANNOT
    on_uvloop = False

    async def open(self) -> None:
        self._executor = _executor()

    async def close(self) -> None:
        self._executor.shutdown()

    async def submit(self, task: str, value: Any) -> Future[Any]:
        return self._executor.submit(TASKS[task], value)

    async def result(self, handle: Future[Any]) -> Any:
        return await asyncio.wrap_future(handle)
