"""qmodal itself: `qmodal worker` and `qmodal autoscaler`, and an app with as many containers as told."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import qmodal
from benchmarks import settings, tasks
from benchmarks.shape import Aio, Blocking, Commands

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.parameters import Figures

# W6 looks at pools that have no container yet.
COLD = settings.WORKLOAD == "w6"
LEAST = 0 if COLD else settings.WORKERS
# Seconds in which a worker gets a blank template ready after it used one.
SPARE_SECONDS = 2.0
# One input of a call that has several.
Part = tuple[qmodal.FunctionCall[Any], int]

app = qmodal.App("benchmarks")


@app.function(min_containers=LEAST, max_containers=max(1, settings.WORKERS))
def perform(task: str, value: Any) -> Any:
    """One of the functions that all subjects run."""
    return tasks.TASKS[task](value)


@app.function(min_containers=int(settings.WORKLOAD == "w11"), max_containers=1)
@qmodal.concurrent(max_inputs=100)
async def nap(value: Any) -> Any:
    """Waits beside others."""
    return await tasks.nap(value)


@app.function(min_containers=int(settings.WORKLOAD == "w12"), max_containers=1)
@qmodal.batched(max_batch_size=tasks.BATCH_SIZE, wait_ms=20)
def batch(value: list[Any]) -> list[int]:
    """How many were in the batch of each."""
    time.sleep(tasks.BATCH_SECONDS)
    return [len(value)] * len(value)


APART: dict[str, Any] = {"nap": nap, "batch": batch}


@app.cls()
class Numbered:
    """A pool of its own for every number."""

    number: int = qmodal.parameter()

    @qmodal.method()
    def echo(self, value: int) -> int:
        """What it was given."""
        return value


def _name_server() -> None:
    os.environ["QMODAL_REDIS_URL"] = settings.URL
    os.environ.setdefault("QMODAL_SIGNING_KEY", secrets.token_hex(32))


def _commands() -> Commands:
    program = (sys.executable, "-P", "-m", "qmodal")
    return [(*program, "autoscaler"), (*program, "worker")] if settings.WORKERS else []


class Subject(Blocking):
    """The plain verbs."""

    def __init__(self) -> None:
        _name_server()
        self._running = contextlib.ExitStack()

    def commands(self) -> Commands:
        return _commands()

    def open(self) -> None:
        self._running.enter_context(app.run())

    def close(self) -> None:
        self._running.close()

    def submit(self, task: str, value: Any) -> qmodal.FunctionCall[Any]:
        return perform.spawn(task, value)

    def result(self, handle: qmodal.FunctionCall[Any] | Part) -> Any:
        if isinstance(handle, tuple):
            return handle[0].get(index=handle[1])
        return handle.get()

    def call(self, task: str, value: Any) -> Any:
        return perform.remote(task, value)

    def submit_many(self, task: str, values: Sequence[Any]) -> Sequence[Part]:
        call = perform.spawn_map([task] * len(values), values)
        return [(call, index) for index in range(len(values))]

    def map(self, task: str, values: Sequence[Any]) -> list[Any]:
        return list(perform.map([task] * len(values), values))

    async def cold_starts(self, bench: Bench) -> None:
        """First results of pools without a container, with and without a template of their version."""
        from benchmarks.workloads.containers import emit_starts

        fresh = [self._first_of_app() for _ in range(bench.sizes.starts)]
        emit_starts(bench, "cold start", fresh)
        self.cold_call(0)
        warm = [self.cold_call(number) for number in range(1, bench.sizes.starts + 1)]
        emit_starts(bench, "warm template", warm)

    def turn_over(self, bench: Bench, pools: int, backlog: int) -> Figures:
        """Many parameter pools, beside one with a backlog."""
        from benchmarks import parameters

        assert bench.look is not None
        if not bench.crew.pids():
            bench.crew.start()
        return parameters.turn_over(bench.look, *bench.crew.pids(), pools=pools, backlog=backlog)

    def cold_call(self, number: int) -> float:
        """Seconds of the first call to a pool of a version that has a template."""
        numbered: Any = Numbered
        method = numbered(number=number).echo
        begin = time.perf_counter()
        assert method.remote(number) == number
        return time.perf_counter() - begin

    def _first_of_app(self) -> float:
        self.close()
        self.open()
        time.sleep(SPARE_SECONDS)
        begin = time.perf_counter()
        assert perform.remote("echo", 1) == 1
        return time.perf_counter() - begin


class AioSubject(Aio):
    """The `.aio` twins, on asyncio's own loop."""

    on_uvloop = False
    cannot: Mapping[str, str] = {}

    def __init__(self) -> None:
        _name_server()
        self._running = contextlib.AsyncExitStack()

    def commands(self) -> Commands:
        return _commands()

    async def open(self) -> None:
        await self._running.enter_async_context(app.run())

    async def close(self) -> None:
        await self._running.aclose()

    async def submit(self, task: str, value: Any) -> qmodal.FunctionCall[Any]:
        if task in APART:
            call: qmodal.FunctionCall[Any] = await APART[task].spawn.aio(value)
            return call
        return await perform.spawn.aio(task, value)

    async def result(self, handle: qmodal.FunctionCall[Any]) -> Any:
        return await handle.get.aio()

    async def call(self, task: str, value: Any) -> Any:
        if task in APART:
            return await APART[task].remote.aio(value)
        return await perform.remote.aio(task, value)

    async def map(self, task: str, values: Sequence[Any]) -> list[Any]:
        if task in APART:
            return [value async for value in APART[task].map.aio(values)]
        return [value async for value in perform.map.aio([task] * len(values), values)]
