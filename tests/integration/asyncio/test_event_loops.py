"""Event loops that come and go, in one thread or in many: what belongs to a loop ends with it."""

from __future__ import annotations

import asyncio
import gc
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec

import pytest

from qmodal.client.client import Client
from qmodal.client.verb import is_in_loop
from qmodal.transport.operation import ask_one
from tests.support.store.bench import Bench
from tests.support.waiting import wait_until

Factory = Callable[[], asyncio.AbstractEventLoop]


KINDS = [name for name in ("asyncio", "uvloop") if find_spec(name)]


@pytest.fixture(params=KINDS)
def factory(request: pytest.FixtureRequest) -> Factory:
    """What makes loops of a kind; uvloop's only where it is installed."""
    made: Factory = import_module(request.param).new_event_loop
    return made


async def connections(client: Client, count: int = 3) -> set[int]:
    """The server's ids of connections that the running loop has from now on."""
    waiting = [client.aio(ask_one(b"BLPOP", "nothing", b"0.05")) for _ in range(count)]
    await asyncio.gather(*waiting)
    ids = [client.aio(ask_one(b"CLIENT", b"ID")) for _ in range(count)]
    return set(await asyncio.gather(*ids))


@pytest.fixture
def little_garbage() -> Iterator[None]:
    """Collections look at what was made in this test only, and so take next to no time."""
    gc.freeze()
    yield
    gc.unfreeze()


def open_ones(bench: Bench) -> set[int]:
    listed = bench.ask(b"CLIENT", b"LIST").decode().splitlines()
    return {int(line.split(" ")[0].removeprefix("id=")) for line in listed}


def loops_of(client: Client) -> int:
    gc.collect()
    return len(client.loops)


def are_gone(bench: Bench, ids: set[int]) -> None:
    assert len(ids) == 3
    wait_until(lambda: not ids & open_ones(bench), what="the connections are closed")


def test_connections_end_with_asyncio_run(bench: Bench, client: Client, factory: Factory) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        ids = runner.run(connections(client))
    assert loops_of(client) == 0
    are_gone(bench, ids)


def test_connections_end_with_a_loop_that_is_closed_without_a_word(
    bench: Bench, client: Client, factory: Factory
) -> None:
    loop = factory()
    ids = loop.run_until_complete(connections(client))
    loop.close()
    are_gone(bench, ids)
    del loop
    assert loops_of(client) == 0


@pytest.mark.filterwarnings("ignore:unclosed event loop")
def test_connections_end_with_a_loop_that_is_dropped(bench: Bench, client: Client) -> None:
    loop = asyncio.new_event_loop()
    ids = loop.run_until_complete(connections(client))
    del loop
    assert loops_of(client) == 0
    are_gone(bench, ids)


def test_a_loop_may_stand_still_for_a_while(client: Client, factory: Factory) -> None:
    loops = [factory(), factory()]
    for _ in range(3):
        for loop in loops:
            assert loop.run_until_complete(client.aio(ask_one(b"PING"))) == b"PONG"
    assert len(client.loops) == 2
    for loop in loops:
        loop.run_until_complete(client.aclose())
        loop.close()


def test_threads_run_loops_at_the_same_time(client: Client, factory: Factory) -> None:
    def call(_: int) -> list[bytes]:
        replies = []
        for _ in range(25):
            with asyncio.Runner(loop_factory=factory) as runner:
                replies.append(runner.run(client.aio(ask_one(b"PING"))))
        return replies

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(call, range(8))) == [[b"PONG"] * 25] * 8
    assert loops_of(client) == 0


def test_what_a_loop_closes_at_its_end_may_still_call(
    bench: Bench, client: Client, factory: Factory
) -> None:
    called: list[int] = []

    async def dropped() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0.01)
            called.append(await client.aio(ask_one(b"CLIENT", b"ID")))

    async def program() -> set[int]:
        kept.append(dropped())
        await anext(kept[0])
        return await connections(client)

    kept: list[AsyncIterator[int]] = []
    with asyncio.Runner(loop_factory=factory) as runner:
        ids = runner.run(program())
    assert len(called) == 1
    are_gone(bench, ids)
    wait_until(lambda: called[0] not in open_ones(bench), what="that connection is closed, too")


def test_what_is_first_called_at_the_end_of_a_loop_leaves_nothing(client: Client) -> None:
    called: list[bytes] = []

    async def dropped() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            called.append(await client.aio(ask_one(b"PING")))

    async def program() -> None:
        kept.append(dropped())
        await anext(kept[0])

    kept: list[AsyncIterator[int]] = []
    asyncio.run(program())
    assert called == [b"PONG"]


def test_a_large_write_and_a_large_reply_go_through(client: Client, factory: Factory) -> None:
    text = bytes(range(256)) * (8 << 12)

    async def program() -> bytes:
        echoed: bytes = await client.aio(ask_one(b"ECHO", text))
        return echoed

    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(program()) == text


def test_a_task_that_is_cancelled_in_the_middle_of_a_write_leaves_a_good_driver(
    client: Client, factory: Factory
) -> None:
    text = bytes(32 << 20)

    async def program() -> bytes:
        for turns in range(12):
            task = asyncio.create_task(client.aio(ask_one(b"ECHO", text)))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        pong: bytes = await client.aio(ask_one(b"PING"))
        return pong

    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(program()) == b"PONG"


@pytest.mark.usefixtures("little_garbage")
def test_a_task_that_is_cancelled_while_it_connects_leaves_nothing_open(
    client: Client, factory: Factory
) -> None:
    async def program() -> None:
        for turns in range(12):
            await client.aclose()
            task = asyncio.create_task(client.aio(ask_one(b"PING")))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            del task
            gc.collect()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(program())


def test_a_thread_that_imports_asyncio_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncio", types.ModuleType("asyncio"))
    assert not is_in_loop()
