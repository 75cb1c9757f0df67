"""Carry out operations on asyncio connections: the driver behind the `.aio` verbs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, TypeVar

from redis import exceptions as redis_errors
from redis.asyncio import connection as asyncio_connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import SSLConnection, UnixDomainSocketConnection

from qmodal.exception import Error
from qmodal.store.blocking import give_up, is_refused, repeat_delay, unreachable
from qmodal.store.exchange import Command, Effect, Exchange, Later, Op, Pause, Reply
from qmodal.store.line import LOST, READ_SECONDS, Address, pack, refused
from qmodal.store.replies import Verdict, first_error, judge, to_exception
from qmodal.store.script import load_commands

T = TypeVar("T")
_KINDS: dict[type, type[asyncio_connection.AbstractConnection]] = {
    UnixDomainSocketConnection: asyncio_connection.UnixDomainSocketConnection,
    SSLConnection: asyncio_connection.SSLConnection,
}


class AsyncLine:
    """An asyncio connection; one exchange at a time."""

    __slots__ = ("_connection",)

    def __init__(self, address: Address) -> None:
        parameters: dict[str, Any] = address.parameters()
        # With a timeout of its own redis-py writes under `wait_for`, which before Python 3.12 loses
        # a cancellation that arrives together with the end: tasks that were to stop went on.
        parameters["socket_timeout"] = None
        kind = _KINDS.get(parameters.pop("connection_class"), asyncio_connection.Connection)
        self._connection = kind(retry=Retry(NoBackoff(), 0), **parameters)

    async def connect(self) -> None:
        """Connect and log in; raises redis-py's connection errors and ConfigurationError."""
        try:
            await self._connection.connect()
        except redis_errors.RedisError as error:
            await self.close()
            # Over a Unix socket redis-py wraps what the server said to the login.
            said = (
                error.__cause__ if isinstance(error.__cause__, redis_errors.RedisError) else error
            )
            if isinstance(said, redis_errors.ResponseError):
                raise refused(said) from said
            raise said from None

    async def write(self, commands: Sequence[Command]) -> None:
        """Send the commands in one write."""
        async with asyncio.timeout(READ_SECONDS):
            await self._connection.send_packed_command([pack(commands)], check_health=False)

    async def read(self) -> Reply:
        """The next reply; an error reply is returned, not raised. A lost connection raises."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await self._connection.read_response()
        except redis_errors.ResponseError as error:
            return error

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send, then read exactly as many replies as were sent."""
        await self.write(commands)
        return [await self.read() for _ in commands]

    def abandon(self) -> None:
        """End the connection of a loop that is closed and can do nothing any more."""
        writer = self._connection._writer
        sock = None if writer is None else writer.transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        """Drop the connection without waiting for the peer."""
        await self._connection.disconnect(nowait=True)


class Asynchronous:
    """A pool of asyncio lines to one server; belongs to the loop it is first used in."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._idle: deque[AsyncLine] = deque()
        self._loaded = False
        self._later: deque[Command] = deque()

    async def run(self, op: Op[T]) -> T:
        """Drive the operation to its result; raises what it raises and qmodal.ConnectionError."""
        try:
            request = next(op)
            while True:
                try:
                    replies = await self._answer(request)
                except BaseException as error:  # the operation may know what to do about it
                    request = op.throw(error)
                else:
                    request = op.send(replies)
        except StopIteration as done:
            result: T = done.value
            return result

    async def _answer(self, request: Effect) -> list[Reply]:
        if isinstance(request, Exchange):
            return await self.exchange(request)
        if isinstance(request, Later):
            self.later(request.command)
        elif isinstance(request, Pause):
            await asyncio.sleep(request.seconds)
        else:
            with contextlib.suppress(Error, TimeoutError):
                async with asyncio.timeout(request.seconds):
                    await self.run(request.op)
        return []

    async def exchange(self, request: Exchange) -> list[Reply]:
        """Carry out one exchange, repeating it while that can help."""
        ends = time.monotonic() + request.patience
        attempt = 0
        while True:
            try:
                replies = await self._once(request)
            except LOST as error:
                # Those that lie idle were lost with it; trying one after another takes too long.
                await self._drop_idle()
                give_up(self.address, error, ends)
            else:
                refusal = first_error(replies)
                if refusal is None:
                    return replies
                await self._repair(refusal, ends)
            await asyncio.sleep(repeat_delay(attempt))
            attempt += 1

    async def _repair(self, error: Exception, ends: float) -> None:
        verdict = judge(error)
        if verdict is Verdict.LOAD:
            self._loaded = False
        elif verdict is Verdict.RECONNECT:
            await self._drop_idle()
        elif verdict is not Verdict.WAIT:
            raise to_exception(error, verdict) from error
        if time.monotonic() > ends:
            raise unreachable(self.address, error) from error

    async def _once(self, request: Exchange) -> list[Reply]:
        line = await self._take()
        try:
            replies = await self._talk(line, request)
        except BaseException:  # also CancelledError: replies are still on their way
            await line.close()
            raise
        if is_refused(request, replies) and len(replies) < len(request.commands):
            await line.close()
        else:
            self._idle.append(line)
        return replies

    async def _talk(self, line: AsyncLine, request: Exchange) -> list[Reply]:
        later = [self._later.popleft() for _ in range(min(len(self._later), 100))]
        await line.write((*later, *request.commands))
        for _ in later:
            await line.read()
        replies: list[Reply] = []
        last = len(request.commands) - 1
        for position in range(last + 1):
            if position == last and is_refused(request, replies):
                break
            replies.append(await line.read())
        return replies

    async def _take(self) -> AsyncLine:
        if self._idle:
            line = self._idle.pop()
        else:
            line = AsyncLine(self.address)
            await line.connect()
        if not self._loaded:
            await self._load(line)
        return line

    async def _load(self, line: AsyncLine) -> None:
        try:
            error = first_error(await line.exchange(load_commands()))
        except BaseException:
            await line.close()
            raise
        if error is not None:
            await line.close()
            raise to_exception(error, judge(error)) from error
        self._loaded = True

    def later(self, command: Command) -> None:
        """Send the command along with some later write; nobody reads its reply."""
        self._later.append(command)

    async def _drop_idle(self) -> None:
        while self._idle:
            await self._idle.pop().close()

    def abandon(self) -> list[Command]:
        """End the connections of a closed loop; the commands that were put off."""
        for line in self._idle:
            line.abandon()
        self._idle.clear()
        return list(self._later)

    async def close(self) -> None:
        """Send what was put off and close all idle connections."""
        while self._later:
            try:
                await self._once(Exchange(((b"PING",),)))
            except LOST:
                self._later.clear()
        await self._drop_idle()
