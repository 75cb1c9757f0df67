"""Carry out operations on asyncio connections: the driver behind the `.aio` verbs."""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, TypeVar

from qmodal.exception import Error
from qmodal.transport.aio_connection import AsyncConnection
from qmodal.transport.connection import BLOCK_SECONDS, LOST, Address
from qmodal.transport.driver import FINISH_SECONDS
from qmodal.transport.errors import ReplyAction, first_error
from qmodal.transport.operation import (
    FIND_REPLY_READER,
    AtMost,
    CarriedError,
    Command,
    Effect,
    Exchange,
    Later,
    Op,
    Pause,
    Reply,
)
from qmodal.transport.script import load_commands
from qmodal.transport.sharing.deferred import take_later
from qmodal.transport.sharing.multiplexer import Multiplexer
from qmodal.transport.sharing.pending_call import PendingCall
from qmodal.transport.sharing.pending_exchange import PendingExchange
from qmodal.transport.sharing.reply_reader import ReplyReader
from qmodal.transport.waiting import Wait, check_size, is_refused, refusal_of

T = TypeVar("T")
# So many calls at a time are quicker with a connection each than together.
FEW_TASKS = 3


class AsyncDriver:
    """A pool of asyncio connections to one server; belongs to the loop it is first used in.

    `later`: what is put off, if other drivers may send it too.
    """

    def __init__(self, address: Address, later: deque[Command] | None = None) -> None:
        self.address = address
        self._idle: deque[AsyncConnection] = deque()
        self._loaded = False
        self._later: deque[Command] = deque() if later is None else later
        self.is_ending = False
        self._lasts: weakref.WeakSet[Last] = weakref.WeakSet()
        # How many exchanges of calls are under way, and what these share.
        self._calls = 0
        self._multiplexer: Multiplexer | None = None

    async def run(self, op: Op[T]) -> T:
        """Drive the operation to its result; raises what it raises and qmodal.ConnectionError."""
        try:
            request = next(op)
            while True:
                try:
                    if type(request) is Exchange:
                        replies = await self.exchange(request)
                    elif (answer := self._at_once(request)) is None:
                        replies = await self._aside(request)
                    else:
                        replies = answer
                except BaseException as error:  # the operation may know what to do about it
                    request = op.throw(error)
                else:
                    request = op.send(replies)
        except StopIteration as done:
            result: T = done.value
            return result
        except CarriedError as carried:
            raise carried.substitute from carried.error

    def _at_once(self, request: Effect) -> list[Any] | None:
        """The answer to what needs no waiting, as with each call; None for anything else."""
        if isinstance(request, Later):
            self._later.append(request.command)
            return []
        if request is FIND_REPLY_READER:
            reader = self.reply_reader()
            return [] if reader is None else [reader]
        return None

    async def _aside(self, request: Effect) -> list[Reply]:
        if isinstance(request, Pause):
            await asyncio.sleep(request.seconds)
        elif isinstance(request, AtMost):
            await self._at_most(request)
        return []

    async def _at_most(self, request: AtMost) -> None:
        # In a task of its own: what waits here may be cancelled again, or closed in the middle.
        last = Last(self._do, request.op, request.seconds)
        self._lasts.add(last)
        await last.wait()

    async def _do(self, request: Effect) -> list[Reply]:
        if type(request) is Exchange:
            return await self.exchange(request)
        answer = self._at_once(request)
        return await self._aside(request) if answer is None else answer

    def reply_reader(self, at_least: int = FEW_TASKS) -> ReplyReader | None:
        """The reply reader, if enough calls are under way."""
        return self._shared().reader if self._calls >= at_least and not self.is_ending else None

    async def call(self, pending: PendingCall, seconds: float) -> Sequence[bytes] | None:
        """Send a new call with others; what has come for it after so many seconds, or None (`PendingCall`)."""
        multiplexer = self._shared()
        ended: asyncio.Future[Sequence[bytes] | None] = asyncio.get_running_loop().create_future()
        pending.ended, pending.seconds = ended, seconds
        self._calls += 1
        try:
            multiplexer.call(pending)
            return await ended
        finally:
            self._calls -= 1
            multiplexer.leave(pending)

    def _shared(self) -> Multiplexer:
        if self._multiplexer is None:
            self._multiplexer = Multiplexer(self.address, self._later)
        return self._multiplexer

    async def exchange(self, request: Exchange) -> list[Reply]:
        """Carry out one exchange, repeating it while that can help."""
        begin, wait = time.monotonic(), None
        self._calls += request.shared
        try:
            while True:
                once = self._together if self._is_multiplexed(request) else self._alone
                try:
                    replies, failure = await once(request)
                    is_lost = False
                except LOST as error:
                    replies, failure, is_lost = [], error, True
                if failure is None:
                    return replies
                wait = wait or Wait(self.address, request, begin)
                await self._failed(wait, failure, is_lost=is_lost)
        finally:
            self._calls -= request.shared

    async def _failed(self, wait: Wait, failure: Exception, *, is_lost: bool) -> None:
        """Repair what can be, and wait until the exchange is to be repeated; raises if it is not."""
        if is_lost:
            # Those that lie idle were lost with it; trying one after another takes too long.
            await self._drop_idle()
        await self._repair(wait.failed(failure, is_lost=is_lost))
        if wait.may_be_too_large:
            await self.run(check_size(wait.request))
        await asyncio.sleep(wait.delay)

    async def _repair(self, verdict: ReplyAction) -> None:
        if verdict is ReplyAction.LOAD:
            self._loaded = False
        elif verdict in (ReplyAction.RECONNECT, ReplyAction.LOADING):
            await self._drop_idle()

    def _is_multiplexed(self, request: Exchange) -> bool:
        if request.pending_reply is not None:
            return True
        is_short = request.shared and not request.waits
        return is_short and self._calls > FEW_TASKS and not self.is_ending

    async def _together(self, request: Exchange) -> tuple[list[Reply], Exception | None]:
        """Carry it out together with others."""
        ended: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()

        def done(result: list[Reply] | Exception) -> None:
            if ended.done():  # cancelled
                return
            if isinstance(result, Exception):
                ended.set_exception(result)
            else:
                ended.set_result(result)

        pending, multiplexer = PendingExchange(request, done), self._shared()
        multiplexer.submit(pending)
        try:
            replies = await ended
        finally:
            multiplexer.leave(pending)
        return replies, refusal_of(request, replies)

    async def _alone(self, request: Exchange) -> tuple[list[Reply], Exception | None]:
        connection = await self._take()
        replies: list[Reply] = []
        try:
            refusal = None if self._loaded else await self._load(connection)
            if refusal is None:
                replies = await self._talk(connection, request)
                refusal = refusal_of(request, replies)
        except BaseException:  # also CancelledError: replies are still on their way
            await connection.close()
            raise
        if len(replies) < len(request.commands) or self.is_ending:
            await connection.close()
        else:
            self._idle.append(connection)
        return replies, refusal

    async def _talk(self, connection: AsyncConnection, request: Exchange) -> list[Reply]:
        commands = request.commands
        later = take_later(self._later) if self._later else ()
        try:
            await connection.write((*later, *commands) if later else commands)
            if request.meanwhile is not None:
                request.meanwhile()
            if later:
                await connection.replies(len(later))
        except BaseException:  # perhaps the server has not seen them; twice does no harm
            self._later.extendleft(reversed(later))
            raise
        if not request.waits:
            return await connection.replies(len(commands))
        replies = await connection.replies(len(commands) - 1)
        if not is_refused(request, replies):
            replies.append(await connection.read(max(0.0, request.seconds - BLOCK_SECONDS)))
        return replies

    async def _take(self) -> AsyncConnection:
        if self._idle:
            return self._idle.pop()
        connection = AsyncConnection(self.address)
        await connection.connect()
        return connection

    async def _load(self, connection: AsyncConnection) -> Exception | None:
        """Make the scripts known; what the server says if it refuses."""
        refusal = first_error(await connection.exchange(load_commands()))
        self._loaded = refusal is None
        return refusal

    def later(self, command: Command) -> None:
        """Send the command along with some later write; nobody reads its reply."""
        self._later.append(command)

    async def _drop_idle(self) -> None:
        while self._idle:
            await self._idle.pop().close()

    def abandon(self) -> None:
        """End the connections of a loop that will not run any more."""
        if self._multiplexer is not None:
            self._multiplexer.abandon()
        while self._idle:
            self._idle.pop().abandon()

    async def end(self) -> None:
        """The loop is about to end: from now on no connection outlives its exchange."""
        self.is_ending = True
        for last in list(self._lasts):
            await last.wait()
        await self.close()
        await asyncio.sleep(0)  # what closes a TLS connection comes in the next round

    async def close(self) -> None:
        """Send what was put off, which may take a second, and close all idle connections."""
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                refusal = None
                while self._later and refusal is None:
                    _, refusal = await self._alone(Exchange(((b"PING",),)))
        except (*LOST, Error):
            pass
        finally:
            await self._drop_idle()
            multiplexer, self._multiplexer = self._multiplexer, None
            if multiplexer is not None:
                multiplexer.close()


Carry = Callable[[Effect], Awaitable[list[Reply]]]


class Last:
    """An operation in a task of its own, which ends with it or after `seconds`.

    A loop that ends cancels every task, also those that clean up already: what is interrupted like
    that is asked for again. How it went is not said.
    """

    def __init__(self, carry: Carry, op: Generator[Any, list[Reply], Any], seconds: float) -> None:
        self._carry = carry
        self._op = op
        self._is_begun = False
        self._is_late = False
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = loop.create_future()
        # The loop keeps a timer, and with it the task: it knows tasks only weakly.
        self._timer = loop.call_later(seconds, self._give_up)
        self._begin()

    async def wait(self) -> None:
        """Until it has ended; raises CancelledError if only who waits is cancelled."""
        await asyncio.shield(self._ended)

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._end)

    async def _run(self) -> None:
        self._is_begun = True
        with contextlib.suppress(Error, StopIteration):
            step = next(self._op)
            while not self._is_late:
                try:
                    replies = await self._carry(step)
                except asyncio.CancelledError:
                    continue
                except Error as error:
                    step = self._op.throw(error)
                else:
                    step = self._op.send(replies)
        self._op.close()

    def _end(self, _task: asyncio.Task[None]) -> None:
        if not self._is_begun and not self._is_late:  # cancelled before its first step
            self._begin()
            return
        self._timer.cancel()
        if not self._ended.done():
            self._ended.set_result(None)

    def _give_up(self) -> None:
        self._is_late = True
        self._task.cancel()
