"""Many callers of one process: each gets its own result, whatever they share is lost, and few connections are made."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PosixPath
from typing import Any

import pytest

from qmodal.client import client as clients, context
from qmodal.client.client import Client
from qmodal.exception import (
    CallCancelled,
    ExecutionError,
    FunctionTimeoutError,
    OutputExpiredError,
)
from qmodal.functions import remote as invocation
from qmodal.functions.target import Target
from qmodal.spec.documents import PoolSpec
from qmodal.transport import driver
from qmodal.transport.operation import ask_one
from qmodal.wire.ids import new_app_id, new_call_id
from qmodal.wire.outcome import Outcome
from qmodal.wire.payload import dump_value
from qmodal.wire.remote_error import dump_exception
from qmodal.wire.signing import Signer
from tests.support.answering import NAME, Answering, answering
from tests.support.servers import TestServer
from tests.support.store.bench import target_of
from tests.support.waiting import wait_until

MOST_CONNECTIONS = 12
FEW_THREADS = 6
MANY = 500
ERROR = dump_exception(KeyError("k"), origin=NAME, plain_only=False)


@pytest.fixture(autouse=True)
def threads_share_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few threads suffice here for those that come to share."""
    monkeypatch.setattr(driver, "FEW_THREADS", FEW_THREADS)


@pytest.fixture
def target(client: Client) -> Iterator[Target]:
    """A function that the test answers for."""
    spec = PoolSpec(app_id=new_app_id(), function="f")
    before = clients.use(client)
    yield target_of(spec)
    clients.use(before)
    if client.run(client.pools.join(spec.pool)):
        client.run(client.pools.purge(spec.pool, reason="over"))
        client.run(client.pools.reclaim(spec.pool, NAME, reason="over", charged=()))
        assert client.run(client.pools.leave(spec.pool))


def called(target: Target, value: int) -> Any:
    """As `acalled`, for threads."""
    client = clients.current()
    if value % 2:
        return client.run(invocation.remote(target, ((value,), {})))
    return invocation.remote_now(client, target, ((value,), {}))


async def acalled(target: Target, value: int) -> Any:
    """Every other one in few steps, and by the operation, which these fall back to."""
    client = clients.current()
    if value % 2:
        return await client.aio(invocation.remote(target, ((value,), {})))
    return await invocation.remote_aio(client, target, ((value,), {}))


async def all_of(target: Target, count: int) -> list[Any]:
    return await asyncio.gather(*(acalled(target, number) for number in range(count)))


def connections(server: TestServer) -> set[str]:
    with server.plain() as plain:
        return {each["id"] for each in plain.client_list() if "client" not in each["cmd"]}


def replies(client: Client) -> list[bytes]:
    found: list[bytes] = client.run(ask_one(b"KEYS", f"{client.keys.prefix}:*:replies:*"))
    return found


def wait_until_held(held: Answering, count: int) -> None:
    wait_until(lambda: held.held == count, what=f"{count} inputs are claimed")


def test_tasks_share_a_handful_of_connections(
    client: Client, target: Target, server: TestServer
) -> None:
    async def program(held: Answering) -> list[Any]:
        before = connections(server)
        held.may_settle.clear()
        calls = asyncio.ensure_future(all_of(target, MANY))
        await asyncio.to_thread(wait_until_held, held, MANY)
        assert len(connections(server) - before) <= MOST_CONNECTIONS
        held.may_settle.set()
        return await calls

    with answering(client, target.pool) as held:
        assert asyncio.run(program(held)) == list(range(MANY))
    assert held.settled == MANY


def test_calls_that_an_input_makes_share_a_handful_of_connections(
    client: Client, target: Target, server: TestServer
) -> None:
    parent = new_call_id(0)

    async def program(held: Answering) -> list[Any]:
        before = connections(server)
        held.may_settle.clear()
        context.enter((parent, 0))
        calls = asyncio.ensure_future(quickly(target, 50))
        await asyncio.to_thread(wait_until_held, held, 50)
        assert len(connections(server) - before) <= MOST_CONNECTIONS
        held.may_settle.set()
        return await calls

    with answering(client, target.pool) as held:
        assert asyncio.run(program(held)) == list(range(50))
    client.run(ask_one(b"UNLINK", client.keys.children(parent)))


def test_threads_share_a_handful_of_connections(
    client: Client, target: Target, server: TestServer
) -> None:
    count = 50
    with answering(client, target.pool) as held, ThreadPoolExecutor(count) as threads:
        held.may_settle.clear()
        before = connections(server)
        calls = [threads.submit(called, target, number) for number in range(count)]
        wait_until_held(held, count)
        assert len(connections(server) - before) <= MOST_CONNECTIONS
        held.may_settle.set()
        assert [call.result() for call in calls] == list(range(count))


def test_loops_of_several_threads_do_not_meet(client: Client, target: Target) -> None:
    def run() -> list[Any]:
        return asyncio.run(all_of(target, 30))

    with answering(client, target.pool), ThreadPoolExecutor(8) as threads:
        loops = [threads.submit(run) for _ in range(3)]
        plain = [threads.submit(called, target, number) for number in range(60)]
        assert [loop.result() for loop in loops] == [list(range(30))] * 3
        assert [call.result() for call in plain] == list(range(60))


def test_whoever_waits_for_long_looks_and_goes_on_waiting(client: Client, target: Target) -> None:
    async def program(held: Answering) -> list[Any]:
        held.may_settle.clear()
        asyncio.get_running_loop().call_later(1.6, held.may_settle.set)
        return await all_of(target, 20)

    with answering(client, target.pool) as held:
        assert asyncio.run(program(held)) == list(range(20))


def test_a_large_result_is_announced_and_read_from_the_outputs(
    client: Client, target: Target
) -> None:
    with answering(client, target.pool, size=20_000):
        found = asyncio.run(all_of(target, 20))
    assert [int(each) for each in found] == list(range(20))


def quickly_in_threads(target: Target, count: int) -> list[Any]:
    """As `quickly`, in as many threads."""
    client = clients.current()

    def call(number: int) -> Any:
        return invocation.remote_now(client, target, ((number,), {}))

    with ThreadPoolExecutor(count) as threads:
        calls = [threads.submit(call, number) for number in range(count)]
    return [call.exception() or call.result() for call in calls]


async def quickly(target: Target, count: int) -> list[Any]:
    """What so many tasks get from calls in few steps: values, or what these raise."""
    client = clients.current()
    calls = (invocation.remote_aio(client, target, ((number,), {})) for number in range(count))
    return await asyncio.gather(*calls, return_exceptions=True)


def calls_of(client: Client) -> list[bytes]:
    """Keys of calls; what was put off is sent with the question."""
    found: list[bytes] = client.run(ask_one(b"KEYS", f"{client.keys.prefix}:*:call:*"))
    return found


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome("error", "x", ERROR), KeyError),
        (Outcome("timeout", "t", b"late"), FunctionTimeoutError),
        (Outcome("value", *dump_value(Path("a"), plain_only=False)), PosixPath),
        (Outcome("value", "m", b"\xc1"), ExecutionError),
        (Outcome("value", "m", b"", blob=b"d" * 16), OutputExpiredError),
        (Outcome("values", "m", b"\x90"), ExecutionError),
    ],
)
def test_an_unusual_outcome_is_what_it_is_for_one_call(
    client: Client, target: Target, outcome: Outcome, expected: type
) -> None:
    with answering(client, target.pool, outcome=outcome):
        assert {type(each) for each in asyncio.run(quickly(target, 20))} == {expected}
        assert {type(each) for each in quickly_in_threads(target, 20)} == {expected}
    assert calls_of(client) == []


def test_an_outcome_that_somebody_else_has_signed_is_not_opened(
    client: Client, target: Target
) -> None:
    with answering(client, target.pool, signer=Signer(b"another" * 4)):
        found = asyncio.run(quickly(target, 20))
    assert {type(each) for each in found} == {ExecutionError}
    assert "not signed with this process's key" in str(found[-1])
    assert calls_of(client) == []


@pytest.mark.parametrize("way", ["deleted", "another kind of value"])
def test_a_lost_reply_stream_costs_a_second(client: Client, target: Target, way: str) -> None:
    async def program(held: Answering) -> None:
        held.may_settle.clear()
        calls = asyncio.ensure_future(all_of(target, 20))
        await asyncio.to_thread(wait_until_held, held, 20)
        (stream,) = await asyncio.to_thread(replies, client)
        for command in [(b"DEL", stream), (b"SET", stream, b"x", b"EX", 60)][
            : 1 + (way != "deleted")
        ]:
            await asyncio.to_thread(client.run, ask_one(*command))
        held.may_settle.set()
        assert await calls == list(range(20))
        assert await all_of(target, 20) == list(range(20))

    with answering(client, target.pool) as held:
        asyncio.run(program(held))


def test_connections_that_are_cut_lose_no_call(
    client: Client, target: Target, server: TestServer
) -> None:
    async def program(held: Answering) -> list[Any]:
        calls = asyncio.ensure_future(all_of(target, 200))
        for _ in range(5):
            await asyncio.to_thread(cut, server)
        return await calls

    with answering(client, target.pool) as held, ThreadPoolExecutor(20) as threads:
        plain = [threads.submit(called, target, number) for number in range(100)]
        assert asyncio.run(program(held)) == list(range(200))
        assert [call.result() for call in plain] == list(range(100))


def cut(server: TestServer) -> None:
    with server.plain() as plain:
        plain.client_kill_filter(_type="normal", skipme=True)


def test_scripts_that_the_server_forgot_are_sent_again(
    client: Client, target: Target, server: TestServer
) -> None:
    async def program() -> None:
        for _ in range(3):
            assert await all_of(target, 20) == list(range(20))
            with server.plain() as plain:
                plain.script_flush()

    with answering(client, target.pool):
        asyncio.run(program())


def test_a_cancelled_task_takes_back_its_own_input_only(client: Client, target: Target) -> None:
    async def program(held: Answering) -> None:
        held.may_settle.clear()
        tasks = [asyncio.create_task(acalled(target, number)) for number in range(30)]
        await asyncio.to_thread(wait_until_held, held, 30)
        for task in tasks[::2]:
            task.cancel()
        gone = await asyncio.gather(*tasks[::2], return_exceptions=True)
        assert {type(each) for each in gone} == {asyncio.CancelledError}
        held.may_settle.set()
        assert await asyncio.gather(*tasks[1::2]) == list(range(1, 30, 2))

    with answering(client, target.pool) as held:
        asyncio.run(program(held))
    assert held.settled == 15


def test_a_call_that_somebody_cancels_is_told_at_once(client: Client, target: Target) -> None:
    async def program(held: Answering) -> list[Any]:
        held.may_settle.clear()
        calls = asyncio.ensure_future(
            asyncio.gather(*(acalled(target, n) for n in range(20)), return_exceptions=True)
        )
        await asyncio.to_thread(wait_until_held, held, 20)
        records = await asyncio.to_thread(
            client.run, ask_one(b"KEYS", f"{client.keys.prefix}:*:call:*")
        )
        for record in records:
            await client.aio(client.calls.cancel(record.decode().rpartition(":")[2]))
        return await asyncio.wait_for(calls, 10)

    with answering(client, target.pool) as held:
        assert {type(each) for each in asyncio.run(program(held))} == {CallCancelled}


def test_a_loop_that_is_closed_in_the_middle_leaves_no_connection(
    client: Client, target: Target, server: TestServer
) -> None:
    with answering(client, target.pool) as held:
        held.may_settle.clear()
        client.run(ask_one(b"PING"))
        before = connections(server)
        loop = asyncio.new_event_loop()
        calls = loop.create_task(all_of(target, 50))
        loop.run_until_complete(asyncio.to_thread(wait_until_held, held, 50))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        del loop, calls
        gc.collect()
        wait_until(lambda: not connections(server) - before, what="its connections are closed")
        held.may_settle.set()
        assert called(target, 1) == 1


def test_ctrl_c_takes_back_the_input_of_its_thread_only(client: Client, target: Target) -> None:
    def press(held: Answering) -> None:
        wait_until_held(held, 21)
        os.kill(os.getpid(), signal.SIGINT)

    with answering(client, target.pool) as held, ThreadPoolExecutor(21) as threads:
        held.may_settle.clear()
        calls = [threads.submit(called, target, number) for number in range(20)]
        wait_until_held(held, 20)
        pressing = threads.submit(press, held)
        with pytest.raises(KeyboardInterrupt):
            called(target, 20)
        pressing.result()
        held.may_settle.set()
        assert [call.result() for call in calls] == list(range(20))
    assert held.settled == 20


@pytest.mark.parametrize("kind", ["loop", "threads"])
def test_a_client_that_is_closed_in_the_middle_goes_on(
    client: Client, target: Target, kind: str
) -> None:
    async def program(held: Answering) -> list[Any]:
        calls = asyncio.ensure_future(all_of(target, 50))
        await asyncio.to_thread(wait_until_held, held, 50)
        await client.aclose()
        held.may_settle.set()
        return await calls

    with answering(client, target.pool) as held, ThreadPoolExecutor(50) as threads:
        held.may_settle.clear()
        if kind == "loop":
            assert asyncio.run(program(held)) == list(range(50))
            return
        calls = [threads.submit(called, target, number) for number in range(50)]
        wait_until_held(held, 50)
        client.close()
        held.may_settle.set()
        assert [call.result() for call in calls] == list(range(50))


def test_a_thread_that_is_slow_to_take_its_result_delays_no_other(
    client: Client, target: Target
) -> None:
    goes_on = threading.Event()

    def slowly(number: int) -> Any:
        found = called(target, number)
        goes_on.wait()
        return found

    with answering(client, target.pool) as held, ThreadPoolExecutor(40) as threads:
        held.may_settle.clear()
        slow = [threads.submit(slowly, number) for number in range(10)]
        quick = [threads.submit(called, target, number) for number in range(20)]
        wait_until_held(held, 30)
        held.may_settle.set()
        assert [call.result() for call in quick] == list(range(20))
        assert [threads.submit(called, target, n).result() for n in range(5)] == list(range(5))
        goes_on.set()
        assert [call.result() for call in slow] == list(range(10))


def test_a_fork_in_the_middle_has_its_own(client: Client, target: Target) -> None:
    with answering(client, target.pool) as held, ThreadPoolExecutor(20) as threads:
        held.may_settle.clear()
        calls = [threads.submit(called, target, number) for number in range(20)]
        wait_until_held(held, 20)
        if (child := os.fork()) == 0:
            os._exit(_in_child(target))
        held.may_settle.set()
        assert [call.result() for call in calls] == list(range(20))
        assert os.waitpid(child, 0)[1] == 0
        assert [call.result() for call in [threads.submit(called, target, n) for n in range(20)]]
    assert len(replies(client)) >= 2


def _in_child(target: Target) -> int:
    """0 if many calls of the child have their results."""
    threads = [threading.Thread(target=called, args=(target, number)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0 if asyncio.run(all_of(target, 20)) == list(range(20)) else 1


def test_reply_streams_have_a_lifetime_and_keep_little(client: Client, target: Target) -> None:
    async def program() -> None:
        for _ in range(10):
            await all_of(target, 200)

    with answering(client, target.pool):
        asyncio.run(program())
    for stream in replies(client):
        assert 0 < client.run(ask_one(b"PTTL", stream)) <= 60_000
        assert client.run(ask_one(b"XLEN", stream)) < 1000


def test_a_call_that_is_alone_has_no_reply_stream(client: Client, target: Target) -> None:
    with answering(client, target.pool):
        assert [called(target, number) for number in range(5)] == list(range(5))
    assert replies(client) == []
