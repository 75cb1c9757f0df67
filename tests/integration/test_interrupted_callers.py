"""Callers that are interrupted while they wait: the input that nobody waits for is taken back."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from qmodal import client as clients
from qmodal import invocation
from qmodal.client import Client
from qmodal.store.exchange import AtMost, Op, Pause, ask_one
from qmodal.store.line import Address
from qmodal.target import Target
from qmodal.wire.ids import new_app_id
from qmodal.wire.spec import PoolSpec
from tests.bench import target_of
from tests.driving import DRIVERS
from tests.servers import TestServer
from tests.support import wait_until


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
