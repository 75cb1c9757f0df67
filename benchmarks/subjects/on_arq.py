"""arq, polling every few ms on both sides instead of its half a second."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from arq import create_pool, func
from arq.connections import RedisSettings

from benchmarks import settings
from benchmarks.shape import RESULT_SECONDS, Aio, Commands
from benchmarks.tasks import TASKS, finished

CLIENT_POLL, WORKER_POLL = 0.002, 0.005
AT_ONCE = 100
SERVER = RedisSettings(host=settings.HOST, port=settings.PORT)


def _as_coroutine(function: Callable[[Any], Any]) -> Callable[[Any, Any], Coroutine[Any, Any, Any]]:
    async def run(_context: Any, value: Any) -> Any:
        return await finished(function(value))

    return run


class WorkerSettings:
    """What `arq` reads."""

    functions = tuple(func(_as_coroutine(each), name=name) for name, each in TASKS.items())
    redis_settings = SERVER
    log_results = False
    poll_delay = WORKER_POLL
    max_jobs = AT_ONCE if settings.AT_ITS_BEST else 1


class AioSubject(Aio):
    """`enqueue_job` and `result`; it has no bulk verb."""

    def commands(self) -> Commands:
        name = "benchmarks.subjects.on_arq.WorkerSettings"
        return [(*settings.program("arq"), name)] * settings.WORKERS

    async def open(self) -> None:
        self._pool = await create_pool(SERVER)

    async def close(self) -> None:
        await self._pool.aclose()

    async def submit(self, task: str, value: Any) -> Any:
        return await self._pool.enqueue_job(task, value)

    async def result(self, handle: Any) -> Any:
        return await handle.result(timeout=RESULT_SECONDS, poll_delay=CLIENT_POLL)
