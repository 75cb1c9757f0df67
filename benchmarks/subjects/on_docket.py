"""docket (on PyPI: pydocket): Redis streams and Lua."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from docket import Docket

from benchmarks import settings
from benchmarks.shape import RESULT_SECONDS, Aio, Commands
from benchmarks.tasks import TASKS, finished

AT_ONCE = 100


def _as_coroutine(name: str, function: Callable[[Any], Any]) -> Any:
    async def run(value: Any) -> Any:
        return await finished(function(value))

    run.__qualname__ = run.__name__ = name
    return run


# What its worker reads.
tasks = [_as_coroutine(name, each) for name, each in TASKS.items()]
by_name = {each.__name__: each for each in tasks}


class AioSubject(Aio):
    """`add` and `get_result`; it has no bulk verb."""

    def commands(self) -> Commands:
        at_once = str(AT_ONCE if settings.AT_ITS_BEST else 1)
        options = ["worker", "--url", settings.URL, "--docket", "bench", "--concurrency", at_once]
        options += ["--tasks", "benchmarks.subjects.on_docket:tasks", "--logging-level", "ERROR"]
        return [(*settings.program("docket"), *options)] * settings.WORKERS

    async def open(self) -> None:
        is_open, self._closing = asyncio.Event(), asyncio.Event()
        self._held = asyncio.create_task(self._hold(is_open))
        await is_open.wait()

    async def _hold(self, is_open: asyncio.Event) -> None:
        async with Docket(name="bench", url=settings.URL) as self._docket:
            for each in tasks:
                self._docket.register(each)
            is_open.set()
            await self._closing.wait()

    async def close(self) -> None:
        self._closing.set()
        await self._held

    async def submit(self, task: str, value: Any) -> Any:
        return await self._docket.add(by_name[task])(value)

    async def result(self, handle: Any) -> Any:
        return await handle.get_result(timeout=timedelta(seconds=RESULT_SECONDS))
