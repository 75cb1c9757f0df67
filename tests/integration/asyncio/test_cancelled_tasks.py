"""Tasks that are cancelled at any of their steps, and loops that end in the middle: nothing is left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import qmodal
from qmodal.client import client as clients
from qmodal.transport.operation import ask_one
from tests.support.stacks import deployed_program
from tests.support.waiting import wait_until

PROGRAM = Path(__file__).parents[2] / "programs" / "mapping.py"
STEPS = 25
Way = Callable[[Any], Awaitable[Any]]


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The deployed program; one stack for all tests of this module."""
    with deployed_program(PROGRAM, tmp_path_factory) as module:
        module.nap.remote(0.0)
        list(module.letters.remote_gen(1))
        yield module


def call_keys() -> set[bytes]:
    """The keys of calls that the server knows, but for what ends within seconds."""
    client = clients.current()
    client.run(ask_one(b"PING"))  # what was put off goes along
    found = client.run(ask_one(b"KEYS", b"*:call:*"))
    return {key for key in found if not key.endswith(b":more")}


def leaves_nothing(user: Any) -> None:
    wait_until(lambda: not call_keys(), what="all calls are forgotten")
    wait_until(lambda: not user.nap.get_current_stats().backlog, what="nothing is queued")


async def naps(n: int) -> AsyncIterator[float]:
    for _ in range(n):
        await asyncio.sleep(0)
        yield 0.01


async def remote(user: Any) -> None:
    await user.nap.remote.aio(0.001)


async def whole_map(user: Any) -> None:
    async for _ in user.nap.map.aio([0.001] * 5):
        continue


async def whole_map_of_an_iterator(user: Any) -> None:
    async for _ in user.nap.map.aio(naps(5)):
        continue


async def generator(user: Any) -> None:
    async for _ in user.letters.remote_gen.aio(3):
        continue


@pytest.mark.parametrize("way", [remote, whole_map, whole_map_of_an_iterator, generator])
def test_a_task_may_be_cancelled_at_each_of_its_steps(user: Any, way: Way) -> None:
    async def cancelled(step: int, seconds: float) -> None:
        task = asyncio.ensure_future(way(user))
        for _ in range(step):
            await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.wait({task}, timeout=20)
        assert task.done()
        assert task.cancelled() or task.exception() is None

    async def program() -> None:
        for step in range(STEPS):
            await clients.current().aclose()  # so that it has to connect
            await cancelled(step, 0)
        for step in range(STEPS):
            await cancelled(step, 0.0005)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left

    asyncio.run(program())
    leaves_nothing(user)


async def first_of_a_map(user: Any) -> None:
    async for _ in user.nap.map.aio([0.01] * 100):
        break


async def first_of_a_map_of_an_iterator(user: Any) -> None:
    async for _ in user.nap.map.aio(naps(100)):
        break


async def first_of_a_generator(user: Any) -> None:
    async for _ in user.letters.remote_gen.aio(3):
        break


async def a_kept_map(user: Any) -> Any:
    results = aiter(user.nap.map.aio([0.01] * 100))
    await anext(results)
    return results


async def a_kept_map_of_an_iterator(user: Any) -> Any:
    results = aiter(user.nap.map.aio(naps(100)))
    await anext(results)
    return results


async def tasks_that_nobody_awaits(user: Any) -> list[Any]:
    tasks = [asyncio.create_task(user.nap.remote.aio(60.0)) for _ in range(10)]
    await asyncio.sleep(0.05)
    return tasks


ENDS: list[Way] = [
    first_of_a_map,
    first_of_a_map_of_an_iterator,
    first_of_a_generator,
    a_kept_map,
    a_kept_map_of_an_iterator,
    tasks_that_nobody_awaits,
]


@pytest.mark.parametrize("way", ENDS, ids=lambda way: way.__name__)
def test_a_loop_may_end_in_the_middle_of(user: Any, way: Way) -> None:
    async def program() -> Any:
        return await way(user)

    for _ in range(3):
        asyncio.run(program())
    leaves_nothing(user)


def test_some_of_many_callers_are_cancelled_and_the_others_get_what_is_theirs(user: Any) -> None:
    async def doubled(x: int, found: dict[int, int]) -> None:
        found[x] = await user.double.remote.aio(x)

    async def program() -> tuple[dict[int, int], list[asyncio.Task[None]]]:
        found: dict[int, int] = {}
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(doubled(x, found)) for x in range(200)]
            for task in tasks[::3]:
                await asyncio.sleep(0)
                task.cancel()
        return found, tasks

    found, tasks = asyncio.run(program())
    assert all(found[x] == 2 * x for x in found)
    assert {x for x in range(200) if not tasks[x].cancelled()} == found.keys()
    leaves_nothing(user)


def test_an_app_whose_start_is_cancelled_does_not_run_on(user: Any) -> None:
    app = qmodal.App("late").include(user.app)

    async def program(step: float) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(step), app.run():
                await asyncio.sleep(60)

    for step in (0.0, 0.001, 0.01):
        asyncio.run(program(step))
        assert app.app_id is None

    starting = []

    async def ended_by_its_loop() -> None:
        starting.append(asyncio.create_task(program(60)))
        await asyncio.sleep(0.001)

    asyncio.run(ended_by_its_loop())
    assert app.app_id is None
    wait_until(lambda: "heartbeat" not in [t.name for t in threading.enumerate()], what="no beat")
