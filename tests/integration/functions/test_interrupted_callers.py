"""Callers that are interrupted while they wait: the input that nobody waits for is taken back."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.client.verb import StreamVerb
from qmodal.functions import remote as invocation
from qmodal.functions.generator import ItemStream
from qmodal.functions.map.inputs import InputReader
from qmodal.functions.map.map_call import MapOptions
from qmodal.functions.map.map_results import Results
from qmodal.functions.target import Target
from qmodal.spec.documents import PoolSpec
from qmodal.transport.connection import Address
from qmodal.transport.operation import AtMost, Op, Pause, ask_one
from qmodal.wire.ids import new_app_id
from tests.support.servers import TestServer
from tests.support.store.bench import target_of
from tests.support.store.driving import DRIVERS
from tests.support.waiting import wait_until


@pytest.fixture
def target(client: Client) -> Iterator[Target]:
    """A function that nobody serves."""
    spec = PoolSpec(app_id=new_app_id(), function="f")
    before = clients.use(client)
    yield target_of(spec)
    clients.use(before)
    assert client.run(client.pools.leave(spec.pool))


def queued(client: Client, target: Target) -> int:
    length: int = client.run(ask_one(b"XLEN", client.keys.inputs(target.pool)))
    return length


def calls(client: Client) -> list[bytes]:
    pattern = f"{client.keys.prefix}:*:call:*"
    found: list[bytes] = client.run(ask_one(b"KEYS", pattern))
    return found


def interrupt_when_queued(client: Client, target: Target, number: signal.Signals) -> None:
    looking = Client(client.settings)
    wait_until(lambda: queued(looking, target), what="it is queued")
    looking.close()
    os.kill(os.getpid(), number)


def test_ctrl_c_takes_the_input_back(client: Client, target: Target) -> None:
    arguments = (client, target, signal.SIGINT)
    pressing = threading.Thread(target=interrupt_when_queued, args=arguments)
    pressing.start()
    with pytest.raises(KeyboardInterrupt):
        client.run(invocation.remote(target, ((1,), {})))
    pressing.join()
    assert queued(client, target) == 0
    assert calls(client) == []


def test_what_a_signals_handler_raises_takes_it_back_too(client: Client, target: Target) -> None:
    class AlarmError(Exception):
        pass

    def ring(*_: object) -> None:
        raise AlarmError

    before = signal.signal(signal.SIGUSR1, ring)
    pressing = threading.Thread(target=interrupt_when_queued, args=(client, target, signal.SIGUSR1))
    pressing.start()
    with pytest.raises(AlarmError):
        client.run(invocation.remote(target, ((1,), {})))
    pressing.join()
    signal.signal(signal.SIGUSR1, before)
    assert queued(client, target) == 0


def test_a_cancelled_task_takes_its_input_back(client: Client, target: Target) -> None:
    async def call_and_cancel() -> None:
        looking = Client(client.settings)
        task = asyncio.create_task(client.aio(invocation.remote(target, ((1,), {}))))
        while not task.done() and not await asyncio.to_thread(queued, looking, target):
            continue
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        looking.close()
        await client.aclose()

    asyncio.run(call_and_cancel())
    assert queued(client, target) == 0
    assert calls(client) == []


async def endless() -> AsyncIterator[int]:
    while True:
        await asyncio.sleep(0.001)
        yield 1


def found(target: Target) -> Op[Target]:
    yield from ()
    return target


def mapped(target: Target, inputs: Any) -> AsyncIterator[Any]:
    return aiter(Results[Any](partial(found, target), "map", InputReader((inputs,)), MapOptions()))


def generated(target: Target) -> AsyncIterator[Any]:
    return StreamVerb(lambda: ItemStream(partial(found, target), ((1,), {}))).aio()


WAYS: dict[str, Callable[[Target], Awaitable[Any]]] = {
    "remote": lambda target: clients.current().aio(invocation.remote(target, ((1,), {}))),
    "remote_gen": lambda target: anext(generated(target)),
    "map": lambda target: anext(mapped(target, [1])),
    "map of an async iterator": lambda target: anext(mapped(target, endless())),
}


@pytest.mark.leaves_keys
def test_a_timeout_is_a_timeout_also_while_the_server_is_away(
    client: Client, target: Target, server: TestServer
) -> None:
    async def limited(call: Callable[[Target], Awaitable[Any]]) -> float:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await call(target)
        return time.monotonic() - began

    async def program() -> list[float]:
        await client.aio(ask_one(b"PING"))
        with server.frozen():
            return await asyncio.gather(*map(limited, WAYS.values()))

    for took in asyncio.run(program()):
        assert took < 10.0
    client.run(ask_one(b"DEL", client.keys.inputs(target.pool)))


@pytest.mark.parametrize("times", [1, 2, 3])
def test_who_is_cancelled_again_while_cleaning_up_still_takes_the_input_back(
    client: Client, target: Target, times: int
) -> None:
    async def program() -> None:
        looking = Client(client.settings)
        calling = asyncio.create_task(client.aio(invocation.remote(target, ((1,), {}))))
        while not await asyncio.to_thread(queued, looking, target):
            continue
        looking.close()
        for _ in range(times):
            calling.cancel()
            for _ in range(2):
                await asyncio.sleep(0)

    asyncio.run(program())
    assert queued(client, target) == 0
    assert calls(client) == []


def test_a_map_ends_with_the_cancellation_of_what_its_iterator_waits_for(
    client: Client, target: Target
) -> None:
    async def inputs() -> AsyncIterator[int]:
        yield 1
        waiting = asyncio.create_task(asyncio.sleep(60))
        asyncio.get_running_loop().call_soon(waiting.cancel)
        await waiting

    async def program() -> None:
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(10):
                await anext(mapped(target, inputs()))

    asyncio.run(program())
    assert queued(client, target) == 0


def test_a_map_ends_although_its_iterator_takes_no_notice(client: Client, target: Target) -> None:
    async def deaf() -> AsyncIterator[int]:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.001)
            yield 1

    async def program() -> float:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await anext(mapped(target, deaf()))
        return time.monotonic() - began

    assert asyncio.run(program()) < 10.0
    assert queued(client, target) == 0


@pytest.mark.parametrize("kind", DRIVERS)
def test_an_operation_is_given_up_when_it_has_had_its_time(server: TestServer, kind: str) -> None:
    driver = DRIVERS[kind](Address(server.url))

    def endless() -> Op[None]:
        yield Pause(3600)

    def whole() -> Op[str]:
        yield AtMost(endless(), 0.01)
        return "done"

    assert driver.run(whole()) == "done"
    driver.close()
