"""SAQ on Redis, with pickle for its JSON, which cannot carry bytes."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Sequence
from typing import Any

from saq import Queue
from saq.queue import JobError

from benchmarks import settings
from benchmarks.shape import RESULT_SECONDS, Aio, Commands
from benchmarks.tasks import TASKS, finished

# Its `apply` and `map` poll: each 0.5 s by default. Its wait by pub/sub loses wake-ups.
CALL_POLL, MAP_POLL = 0.001, 0.05
AT_ONCE = 100


def _queue() -> Any:
    return Queue.from_url(settings.URL, dump=pickle.dumps, load=pickle.loads)


def _as_coroutine(name: str, function: Callable[[Any], Any]) -> Callable[..., Any]:
    async def run(_context: Any, *, value: Any) -> Any:
        return await finished(function(value))

    run.__qualname__ = name
    return run


# What `saq` reads.
worker = {
    "queue": _queue(),
    "functions": [(name, _as_coroutine(name, each)) for name, each in TASKS.items()],
    "concurrency": AT_ONCE if settings.AT_ITS_BEST else 1,
}


class AioSubject(Aio):
    """`enqueue`, `apply` and `map`; it has no bulk verb that does not wait."""

    def commands(self) -> Commands:
        options = ("benchmarks.subjects.on_saq.worker", "--quiet")
        return [(*settings.program("saq"), *options)] * settings.WORKERS

    async def open(self) -> None:
        self._queue = _queue()
        await self._queue.connect()

    async def close(self) -> None:
        await self._queue.disconnect()

    async def submit(self, task: str, value: Any) -> Any:
        return await self._queue.enqueue(task, value=value, timeout=int(RESULT_SECONDS))

    async def result(self, handle: Any) -> Any:
        while not handle.completed:
            await handle.refresh()
            await asyncio.sleep(CALL_POLL)
        return handle.result

    async def call(self, task: str, value: Any) -> Any:
        return await self._queue.apply(task, value=value, poll_interval=CALL_POLL)

    async def map(self, task: str, values: Sequence[Any]) -> list[Any]:
        inputs = [{"value": value} for value in values]
        limits = {"timeout": RESULT_SECONDS, "poll_interval": MAP_POLL}
        try:
            found: list[Any] = await self._queue.map(task, inputs, **limits)
        except JobError as error:
            # A worker that starts may give up healthy jobs as lost ("swept").
            if "swept" not in str(error):
                raise
            return await self.map(task, values)
        return found
