"""What a first reading by a stranger found broken, each shown once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, TypeVar

import pytest

from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.exception import EnqueueError
from qmodal.functions.call import FunctionCall
from qmodal.store.entries import Settled
from qmodal.transport.connection import Address
from qmodal.transport.operation import Exchange, Op
from qmodal.wire.outcome import Outcome
from qmodal.wire.payload import dump_value
from qmodal_workers.container.intake.claim_connection import ClaimConnection
from qmodal_workers.ipc import messages
from qmodal_workers.spawn.zygote import Zygote
from tests.support.servers import TestServer
from tests.support.store.bench import Bench, index_of
from tests.support.store.driving import DRIVERS, Background

STALE = 40
T = TypeVar("T")
PING = (b"PING",)


@pytest.fixture
def background() -> Iterator[Background]:
    """A thread to wait in."""
    made = Background()
    yield made
    made.close()


def impatient(op: Op[T]) -> Op[T]:
    """The operation, each of whose exchanges gives up at once."""
    try:
        request = next(op)
        while True:
            assert isinstance(request, Exchange)
            request = op.send((yield request._replace(patience=0.0)))
    except StopIteration as done:
        result: T = done.value
        return result


def test_a_reclaim_that_the_server_refuses_is_no_reclaim(bench: Bench, server: TestServer) -> None:
    bench.submit()
    bench.claim("ta-a-1")
    pools = bench.client.pools
    refused = impatient(pools.reclaim(bench.pool, "ta-a-1", reason="dead", charged=()))
    with server.configured(min_replicas_to_write="1"), pytest.raises(EnqueueError):
        bench.client.run(refused)
    back = bench.client.run(pools.reclaim(bench.pool, "ta-a-1", reason="dead", charged=()))
    assert back == (1, 0)


def test_a_container_outlives_a_server_that_refuses_writes(
    bench: Bench, server: TestServer, background: Background
) -> None:
    call = bench.submit(2)
    claims = ClaimConnection(bench.client, bench.pool, "ta-a-1")
    assert claims.connect() == []
    claims.ask([], count=1)
    (held,) = claims.answer() or []
    done = Settled(held.lane, held.entry, call, 0, b"done", has_blob=False)
    with server.configured(min_replicas_to_write="1"):
        claims.ask([], count=1)
        assert claims.answer() == []
        settling = background.start(claims.settle, [done])
        with pytest.raises(TimeoutError):
            settling.result(timeout=0.3)
    settling.result(timeout=20)
    assert bench.outputs(call) == [(0, b"o", b"done")]
    claims.close()


@pytest.mark.parametrize("make", ["blocking", "asyncio"])
def test_many_connections_that_were_lost_together_cost_one_repetition(
    make: str, server: TestServer
) -> None:
    driver = DRIVERS[make](Address(server.url))
    inner: Any = getattr(driver, "driver", driver)
    spare = []
    for _ in range(STALE):
        driver.exchange(Exchange((PING,)))
        spare.append(inner._idle.pop())
    inner._idle.extend(spare)
    with server.plain() as plain:
        plain.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert driver.exchange(Exchange((PING,), patience=5.0)) == [b"PONG"]
    driver.close()


def test_a_poll_finds_a_result_behind_many_others(bench: Bench, client: Client) -> None:
    call = bench.submit(150)
    form, payload = dump_value("here", plain_only=True)
    outcome = Outcome(kind="value", format=form, payload=payload)
    for claimed in bench.claim(count=150):
        index = index_of(claimed)
        sealed = outcome.seal(client.signer, call=call, index=index, request=b"")
        assert bench.settle(claimed, outcome=sealed)[1] == 1
    before = clients.use(client)
    try:
        assert FunctionCall.from_id(call).get(timeout=0, index=149) == "here"
    finally:
        clients.use(before)


def test_a_fork_that_failed_in_the_nursery_is_nobodys_pid() -> None:
    ours, theirs = messages.pair()

    async def ask() -> None:
        zygote = Zygote(ours, 0)
        asked = [zygote.ask({}, 0, (0, 1, 2)) for _ in range(2)]
        for pid in (0, 7):
            messages.send(theirs, {"pid": pid})
        assert await asyncio.gather(*asked) == [0, 7]
        assert not zygote.is_lost

    with ours, theirs:
        asyncio.run(ask())


@pytest.mark.parametrize("is_gone", [True, False], ids=["gone", "silent"])
def test_a_nursery_that_does_not_answer_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, *, is_gone: bool
) -> None:
    ours, theirs = messages.pair()
    monkeypatch.setattr(
        "qmodal_workers.spawn.zygote.ZYGOTE_ANSWER_SECONDS", 5.0 if is_gone else 0.01
    )

    async def ask() -> None:
        zygote = Zygote(ours, 0)
        asked = [zygote.ask({}, 0, (0, 1, 2)) for _ in range(2)]
        if is_gone:
            theirs.close()
        async with asyncio.timeout(2):
            assert await asyncio.gather(*asked) == [0, 0]
        assert zygote.is_lost

    with ours, theirs:
        asyncio.run(ask())
