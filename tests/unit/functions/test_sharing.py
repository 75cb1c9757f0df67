"""What operations that share a connection put into one command."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any

import pytest

from qmodal.transport.aio_connection import AsyncConnection
from qmodal.transport.connection import LOST, READ_SECONDS, Address
from qmodal.transport.errors import LostError
from qmodal.transport.operation import Command, Exchange, Mergeable, Reply
from qmodal.transport.script import load_commands
from qmodal.transport.sharing.deferred import MOST_DEFERRED, take_later
from qmodal.transport.sharing.multiplexer_thread import MultiplexerThread
from qmodal.transport.sharing.pending_call import PendingCall
from qmodal.transport.sharing.pending_exchange import (
    MOST_MERGED,
    Outgoing,
    PendingExchange,
    merged,
)
from qmodal.transport.sharing.pending_reply import PendingReply
from qmodal.transport.sharing.reply_reader import ReplyReader
from qmodal.transport.sharing.shared_connection import SharedConnection
from tests.support.waiting import wait_until

# Where no server is.
NOWHERE = Address("unix:///nowhere/s")
# More than the kernel takes at once.
LARGE = b"x" * 50_000_000


def test_deletions_that_were_put_off_become_one_command() -> None:
    later: deque[Command] = deque(
        [(b"UNLINK", "a", "b"), (b"PEXPIRE", "c", 1), (b"UNLINK", "d"), (b"XADD", "e")]
    )
    assert take_later(later) == [(b"PEXPIRE", "c", 1), (b"XADD", "e"), (b"UNLINK", "a", "b", "d")]
    assert not later


def test_no_more_is_taken_than_goes_along_with_a_write() -> None:
    later: deque[Command] = deque((b"UNLINK", str(n)) for n in range(MOST_DEFERRED + 1))
    assert len(take_later(later)) == 1
    assert list(later) == [(b"UNLINK", str(MOST_DEFERRED))]


def merge(_kind: str, parts: Sequence[tuple[Any, ...]]) -> Command:
    return (b"MANY", *(value for (value,) in parts))


def pending(kind: str | None, value: int, ended: list[Any]) -> PendingExchange:
    """One of that kind, or one that stands alone; how it ended comes behind its value."""

    def done(result: list[Reply] | Exception) -> None:
        ended.append((value, result))

    if kind is None:
        return PendingExchange(Exchange(((b"ONE", value),)), done)
    return PendingExchange(Exchange((), mergeable=Mergeable(kind, (value,), merge)), done)


def commands(batch: Sequence[Outgoing]) -> list[Command]:
    return [command for each in batch for command in each.commands]


def test_commands_of_one_kind_go_out_as_one() -> None:
    kinds = ["a", None, "b", "a", "b", "a"]
    batch = merged([pending(kind, n, []) for n, kind in enumerate(kinds)])
    assert commands(batch) == [(b"MANY", 0, 3, 5), (b"ONE", 1), (b"MANY", 2, 4)]


def test_no_command_stands_for_too_many() -> None:
    batch = merged([pending("a", n, []) for n in range(2 * MOST_MERGED + 1)])
    assert [len(each) - 1 for each in commands(batch)] == [MOST_MERGED, MOST_MERGED, 1]


def test_each_has_its_own_reply_or_the_one_of_all() -> None:
    for reply, each in (([b"x", b"y"], [b"x", b"y"]), (b"POOL", [b"POOL", b"POOL"])):
        ended: list[Any] = []
        (one,) = merged([pending("a", n, ended) for n in range(2)])
        assert one.take(reply)
        one.answered()
        assert ended == [(0, [each[0]]), (1, [each[1]])]


def test_a_lost_connection_fails_each_of_them() -> None:
    ended: list[Any] = []
    error = ConnectionError()
    (one,) = merged([pending("a", n, ended) for n in range(2)])
    one.end(error)
    assert ended == [(0, error), (1, error)]


async def never() -> AsyncConnection:
    """A connection that is not made."""
    raise AssertionError


def reply_of(reader: ReplyReader, token: str = "call") -> PendingReply:
    return PendingReply(reader, reader.reply_to, "stream", token)


def test_what_an_exchange_that_is_over_waited_for_is_left_to_its_repetition() -> None:
    reply = reply_of(ReplyReader(never))
    ended: list[Any] = []
    request = Exchange((), pending_reply=reply)
    first, again = (PendingExchange(request, ended.append) for _ in range(2))
    first.is_over = True
    again.answered()
    first.answered()
    reply.deliver([b"0", b"o", b"x"])
    assert ended == [[[b"0", b"o", b"x"]]]


def test_content_that_comes_between_two_exchanges_is_kept_for_the_second() -> None:
    reply = reply_of(ReplyReader(never))
    ended: list[Any] = []
    reply.deliver([b"0", b"o", b"x"])
    PendingExchange(Exchange((), pending_reply=reply), ended.append).answered()
    assert ended == [[[b"0", b"o", b"x"]]]


def test_a_reply_that_was_closed_before_it_was_expected_is_not_kept() -> None:
    async def expect() -> None:
        reader = ReplyReader(never)
        reply = reply_of(reader)
        reply.close()
        reader.expect(reply, 0.0)
        assert not reader._pending
        reader.close()

    asyncio.run(expect())


def call_of(ended: asyncio.Future[Any]) -> PendingCall:
    made = PendingCall(ReplyReader(never), "r", "stream", "call")
    made.ended = ended
    return made


CONTENT = [b"0", b"o", b"x"]


@pytest.mark.parametrize(
    ("steps", "ends", "content", "is_accepted"),
    [
        ("accept", False, None, True),
        ("accept deliver", True, CONTENT, True),
        ("deliver accept", True, CONTENT, True),
        ("refuse", True, None, False),
        ("fail", True, None, False),
        ("expire", False, None, False),
        ("accept expire", True, None, True),
        ("accept expire deliver", True, None, True),
        ("deliver expire", True, CONTENT, False),
        ("cancel accept deliver", True, None, True),
    ],
)
def test_a_pending_call_ends_with_its_content_or_without(
    steps: str, ends: bool, content: list[bytes] | None, is_accepted: bool
) -> None:
    loop = asyncio.new_event_loop()
    try:
        ended: asyncio.Future[Any] = loop.create_future()
        call = call_of(ended)

        def reply(answer: bytes) -> None:
            assert call.take(answer)
            call.answered()

        does: dict[str, Callable[[], object]] = {
            "accept": lambda: reply(b"OK"),
            "refuse": lambda: reply(b"POOL"),
            "deliver": lambda: call.deliver(CONTENT),
            "fail": lambda: call.end(ConnectionError()),
            "expire": call.expire,
            "cancel": ended.cancel,
        }
        for step in steps.split():
            does[step]()
        assert ended.done() == ends
        assert call.is_accepted == is_accepted
        if ends and not ended.cancelled():
            assert ended.result() == content
    finally:
        loop.close()


def test_what_comes_for_a_pending_call_that_is_over_is_kept_for_an_exchange() -> None:
    loop = asyncio.new_event_loop()
    try:
        call = call_of(loop.create_future())
        call.end(ConnectionError())
        call.deliver(CONTENT)
        ended: list[Any] = []
        PendingExchange(Exchange((), pending_reply=call), ended.append).answered()
        assert ended == [[CONTENT]]
    finally:
        loop.close()


def test_a_task_that_is_cancelled_before_its_first_step_fails_what_waits() -> None:
    def cancelled(loop: asyncio.AbstractEventLoop, coroutine: Any, **_: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop)
        task.cancel()
        return task

    async def send() -> Any:
        loop = asyncio.get_running_loop()
        shared, ended = SharedConnection(never, deque()), loop.create_future()
        loop.set_task_factory(cancelled)
        shared.submit(PendingExchange(Exchange(((b"PING",),)), ended.set_result))
        try:
            return await asyncio.wait_for(ended, 10)
        finally:
            loop.set_task_factory(None)

    assert isinstance(asyncio.run(send()), LOST)


def test_after_a_connection_that_is_lost_in_the_middle_of_a_write_there_is_another_at_once() -> (
    None
):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(READ_SECONDS)  # so long a write waits that hears of nothing
        address = Address(f"redis://127.0.0.1:{server.getsockname()[1]}")
        lost, replies = asyncio.run(send_large_then_small(address, server))
    assert isinstance(lost, LOST)
    assert replies == [b"OK"]


async def send_large_then_small(address: Address, server: socket.socket) -> tuple[Any, Any]:
    async def connect() -> AsyncConnection:
        connection = AsyncConnection(address)
        await connection.connect()
        return connection

    loop, shared = asyncio.get_running_loop(), SharedConnection(connect, deque())
    large, small = loop.create_future(), loop.create_future()
    unexpected: list[Any] = []
    loop.set_exception_handler(lambda _, told: unexpected.append(told))
    shared.submit(PendingExchange(Exchange(((b"SET", b"a", LARGE),)), large.set_result))
    with (await asyncio.to_thread(server.accept))[0] as first:
        await asyncio.to_thread(first.recv, 1)
        first.sendall(b"-LOADING\r\n")  # and it reads no more
        lost = await large
        await asyncio.sleep(0)  # who was about to write hears of it
        shared.submit(PendingExchange(Exchange(((b"PING",),)), small.set_result))
        with (await asyncio.to_thread(server.accept))[0] as second:
            second.sendall(b"+OK\r\n" * (len(load_commands()) + 1))
            replies = await small
    shared.close()
    assert not unexpected
    return lost, replies


def exchanged(thread: MultiplexerThread) -> Any:
    with suppress(LostError):
        return thread.exchange(Exchange(((b"PING",),)))


def waited(thread: MultiplexerThread) -> Any:
    with suppress(LostError):
        return thread.exchange(Exchange((), pending_reply=reply_of(thread.reader), seconds=60.0))


def called(thread: MultiplexerThread) -> Any:
    return thread.call(PendingCall(thread.reader, "r", "stream", "call"), 60.0)


@pytest.mark.parametrize("submit", [exchanged, waited, called])
def test_what_is_submitted_while_the_thread_ends_fails_at_once(
    submit: Callable[[MultiplexerThread], Any],
) -> None:
    thread = MultiplexerThread(NOWHERE, deque())
    ended: SimpleQueue[Any] = SimpleQueue()
    late = threading.Thread(target=lambda: ended.put(submit(thread)), daemon=True)
    close = thread._multiplexer.close

    def close_and_submit() -> None:
        close()
        late.start()
        wait_until(lambda: thread._is_woken, what="something is to be taken in by the next round")

    thread._multiplexer.close = close_and_submit  # type: ignore[method-assign]
    thread.stop()
    assert ended.get(timeout=5) is None


@pytest.mark.parametrize("kind", ["reader", "shared"])
def test_a_large_reply_that_comes_slowly_is_no_silence(kind: str) -> None:
    async def program(server: socket.socket) -> None:
        async def connect() -> AsyncConnection:
            connection = AsyncConnection(Address(f"redis://127.0.0.1:{server.getsockname()[1]}"))
            await connection.connect()
            return connection

        def has(count: int) -> bool:
            return user._connection is not None and user._connection.parts == count

        user = ReplyReader(connect) if kind == "reader" else SharedConnection(connect, deque())
        if isinstance(user, ReplyReader):
            user.expect(reply_of(user), 0.0)
        else:
            user.submit(PendingExchange(Exchange(((b"PING",),)), lambda _: None))
        now = asyncio.get_running_loop().time()
        with (await asyncio.to_thread(server.accept))[0] as peer:
            for part in range(1, 4):
                peer.sendall(b"*9\r\n" if part == 1 else b":1\r\n")
                await asyncio.to_thread(wait_until, partial(has, part), what="it has come")
                now += READ_SECONDS - 1
                user.check(now)
                assert user._connection is not None
            user.check(now + READ_SECONDS + 1)
            assert user._connection is None
        user.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        asyncio.run(program(server))
