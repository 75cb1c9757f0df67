"""streaQ: Redis streams, coredis as the client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from streaq import TaskStatus, Worker

from benchmarks import settings
from benchmarks.shape import RESULT_SECONDS, Aio, Commands
from benchmarks.tasks import TASKS, finished

AT_ONCE = 100 if settings.WORKLOAD == "w11" else 16
LIMIT = 100_000

worker = Worker(redis_url=settings.URL, concurrency=AT_ONCE if settings.AT_ITS_BEST else 1)


def _as_coroutine(name: str, function: Callable[[Any], Any]) -> Any:
    async def run(value: Any) -> Any:
        return await finished(function(value))

    run.__qualname__ = run.__name__ = name
    return run


tasks = {
    name: worker.task(name=name, silent=True)(_as_coroutine(name, each))
    for name, each in TASKS.items()
}


class AioSubject(Aio):
    """`enqueue`, `enqueue_many` and `result`."""

    def commands(self) -> Commands:
        options = ("run", "benchmarks.subjects.on_streaq:worker")
        return [(*settings.program("streaq"), *options)] * settings.WORKERS

    async def open(self) -> None:
        is_open, self._closing = asyncio.Event(), asyncio.Event()
        self._held = asyncio.create_task(self._hold(is_open))
        await is_open.wait()

    async def _hold(self, is_open: asyncio.Event) -> None:
        """Its connection has to be entered and left by the same task."""
        async with worker:
            is_open.set()
            await self._closing.wait()

    async def close(self) -> None:
        self._closing.set()
        await self._held

    async def submit(self, task: str, value: Any) -> Any:
        return await tasks[task].enqueue(value)

    async def submit_many(self, task: str, values: Sequence[Any]) -> Sequence[Any]:
        started = [tasks[task].enqueue(value) for value in values]
        await worker.enqueue_many(started)
        return started

    async def result(self, handle: Any) -> Any:
        found = await handle.result(RESULT_SECONDS)
        if not found.success:
            raise RuntimeError(f"no result: {found.exception}")
        return found.result

    async def map(self, task: str, values: Sequence[Any]) -> list[Any]:
        started = await self.submit_many(task, values)
        # A subscription for each result takes 0.1 s to close: wait until all are there, read them.
        await _until_taken()
        names = {handle.id for handle in started}
        done: dict[str, Any] = {}
        while len(done) < len(names):
            found = await worker.get_tasks_by_status(TaskStatus.DONE, limit=LIMIT)
            done = {each.task_id: each.result for each in found if each.task_id in names}
        return [done[handle.id] for handle in started]


async def _until_taken() -> None:
    if await worker.queue_size():
        await asyncio.sleep(0.01)
        await _until_taken()
