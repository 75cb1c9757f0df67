"""A program that goes on for long: nothing grows with its calls, maps, loops, handles and apps."""

from __future__ import annotations

import asyncio
import atexit
import gc
import sys
import threading
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

import qmodal
from qmodal.client import client as clients, process
from tests.support.stacks import deployed_program
from tests.support.waiting import wait_until

PROGRAM = Path(__file__).parents[2] / "programs" / "mapping.py"


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The deployed program; one stack for all tests of this module."""
    with deployed_program(PROGRAM, tmp_path_factory) as module:
        yield module


async def counted(n: int) -> AsyncIterator[int]:
    for x in range(n):
        await asyncio.sleep(0)
        yield x


def calls(user: Any) -> None:
    for x in range(10):
        assert user.double.remote(x) == 2 * x
    assert user.double.spawn(2).get() == 4
    with pytest.raises(ValueError):
        user.fails.remote(1)
    assert list(user.letters.remote_gen(2)) == ["a", "b"]


def maps(user: Any) -> None:
    assert sum(user.double.map(range(5))) == 20
    assert sum(user.double.map(iter(range(5)))) == 20
    assert sum(user.double.map(counted(5))) == 20
    for _ in user.double.map(iter(range(300))):
        break


def loops(user: Any) -> None:
    async def whole() -> None:
        assert await user.double.remote.aio(2) == 4
        assert [x async for x in user.double.map.aio(counted(2))] == [0, 2]
        assert [x async for x in user.letters.remote_gen.aio(2)] == ["a", "b"]

    async def halves() -> None:
        async for _ in user.double.map.aio(counted(300)):
            break
        async for _ in user.letters.remote_gen.aio(3):
            break

    asyncio.run(whole())
    asyncio.run(halves())
    loop = asyncio.new_event_loop()
    loop.run_until_complete(whole())
    loop.close()


def threads(user: Any) -> None:
    def call(x: int) -> int:
        doubled: int = user.double.remote(x) + asyncio.run(user.double.remote.aio(x))
        return doubled

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(call, range(4))) == [0, 4, 8, 12]


def handles(user: Any) -> None:
    looked_up: Any = qmodal.Function.from_name("mapping", "double")
    assert looked_up.remote(1) == 2
    assert looked_up.with_options(timeout=60).remote(1) == 2
    assert user.Box(size=3).pid.remote() > 0
    assert looked_up.get_current_stats().backlog >= 0


def apps(user: Any) -> None:
    app = qmodal.App("small").include(user.app)
    with app.run():
        assert user.app.app_id is not None


ROUNDS = 10
WAYS: list[Callable[[Any], None]] = [calls, maps, loops, threads, handles, apps]


def registered() -> dict[str, int]:
    """How many there are of what Python and this process keep until the end."""
    return {
        "exit handlers": atexit._ncallbacks(),
        "finalizers": len(weakref.finalize._registry),  # type: ignore[attr-defined]
        "shutdown hooks": len(threading._threading_atexits),  # type: ignore[attr-defined]
        "modules": len(sys.modules),
        "threads": threading.active_count(),
        "descriptors": psutil.Process().num_fds(),
        "clients": process.count_clients(),
        "loops": len(clients.current().loops),
    }


def beyond(seen: dict[str, int]) -> dict[str, int]:
    """How many more there are than were seen."""
    gc.collect()
    now = registered()
    return {name: now[name] - seen[name] for name in now if now[name] > seen[name]}


def objects() -> Counter[str]:
    gc.collect()
    return Counter(f"{type(each).__module__}.{type(each).__name__}" for each in gc.get_objects())


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_nothing_grows_with(user: Any, way: Callable[[Any], None]) -> None:
    for _ in range(5):
        way(user)
        registered()
    objects()  # what it makes itself once
    before, seen = objects(), registered()
    for _ in range(ROUNDS):
        way(user)
    with suppress(AssertionError):  # a thread or a connection may be about to end
        wait_until(lambda: not beyond(seen), what="no more than before")
    assert beyond(seen) == {}
    after = objects()
    grown = {name: count for name, count in (after - before).items() if count >= ROUNDS}
    assert grown == {}


def test_a_loop_that_is_closed_with_a_map_in_it_is_kept_by_nobody(user: Any) -> None:
    loop = asyncio.new_event_loop()
    results = user.double.map.aio(counted(300))
    assert loop.run_until_complete(anext(results)) == 0
    loop.close()
    kept = weakref.ref(loop)
    del loop, results
    gc.collect()
    assert kept() is None
