"""taskiq with taskiq-redis: the stream broker, which is the one that acknowledges."""

from __future__ import annotations

import base64
from collections.abc import Callable, Coroutine
from typing import Any

from taskiq.serializers import PickleSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks import settings
from benchmarks.shape import RESULT_SECONDS, Aio, Commands
from benchmarks.tasks import TASKS, finished

# It has no blocking wait for a result; its default is 0.2 s.
POLL = 0.0005
AT_ONCE = 100

broker = (
    RedisStreamBroker(url=settings.URL)
    .with_result_backend(RedisAsyncResultBackend(redis_url=settings.URL))
    .with_serializer(PickleSerializer())
)


def _as_coroutine(function: Callable[[Any], Any]) -> Callable[[Any], Coroutine[Any, Any, Any]]:
    async def run(value: Any) -> Any:
        return await finished(function(value))

    return run


tasks = {name: broker.register_task(_as_coroutine(each), name) for name, each in TASKS.items()}


class AioSubject(Aio):
    """`kiq` and `wait_result`; it has no bulk verb."""

    def commands(self) -> Commands:
        at_once = AT_ONCE if settings.AT_ITS_BEST else 1
        options = ["worker", "benchmarks.subjects.on_taskiq:broker", "--workers", "1"]
        options += ["--max-async-tasks", str(at_once), "--log-level", "WARNING"]
        return [(*settings.program("taskiq"), *options)] * settings.WORKERS

    async def open(self) -> None:
        await broker.startup()

    async def close(self) -> None:
        await broker.shutdown()

    async def submit(self, task: str, value: Any) -> Any:
        return await tasks[task].kiq(value)

    async def result(self, handle: Any) -> Any:
        found = await handle.wait_result(check_interval=POLL, timeout=RESULT_SECONDS)
        if found.is_err:
            raise RuntimeError(f"no result: {found.error}")
        return found.return_value

    async def call(self, task: str, value: Any) -> Any:
        if not isinstance(value, bytes):
            return await super().call(task, value)
        # Its messages are JSON whatever the serializer, and refuse bytes that are no text.
        return base64.b64decode(await super().call(task, base64.b64encode(value).decode()))
