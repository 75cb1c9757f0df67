"""ardiq: Redis streams with a core in Rust; needs Python 3.12."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from ardiq import Ardiq

from benchmarks import settings
from benchmarks.shape import RESULT_SECONDS, Aio, Commands, gathered
from benchmarks.tasks import TASKS, finished

AT_ONCE = 100
BULK, READERS = 1000, 50

app = Ardiq(redis_url=settings.URL, concurrency=AT_ONCE if settings.AT_ITS_BEST else 1)


def _as_coroutine(name: str, function: Callable[[Any], Any]) -> Any:
    async def run(value: Any) -> Any:
        return await finished(function(value))

    run.__qualname__ = run.__name__ = name
    return run


tasks = {name: app.task(_as_coroutine(name, each)) for name, each in TASKS.items()}


class AioSubject(Aio):
    """`enqueue`, `enqueue_many` and `result`."""

    def commands(self) -> Commands:
        options = ("run", "-q", "benchmarks.subjects.on_ardiq:app")
        return [(*settings.program("ardiq"), *options)] * settings.WORKERS

    async def submit(self, task: str, value: Any) -> Any:
        return await tasks[task].enqueue(value)

    async def submit_many(self, task: str, values: Sequence[Any]) -> Sequence[Any]:
        prepare = tasks[task].prepare
        started: list[Any] = []
        for first in range(0, len(values), BULK):
            chunk = values[first : first + BULK]
            started += await app.enqueue_many([prepare(value) for value in chunk])
        return started

    async def result(self, handle: Any) -> Any:
        found = await handle.result(timeout=RESULT_SECONDS)
        if not found.success:
            raise RuntimeError(f"no result: {found.value}")
        return found.value

    async def map(self, task: str, values: Sequence[Any]) -> list[Any]:
        started = await self.submit_many(task, values)
        waits: list[Coroutine[Any, Any, Any]] = [self.result(handle) for handle in started]
        return await gathered(waits, READERS)
