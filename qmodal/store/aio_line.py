"""One asyncio connection to Redis; as `line`, for an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from typing import Any

from redis import exceptions as redis_errors
from redis.asyncio import connection as asyncio_connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import SSLConnection, UnixDomainSocketConnection

from qmodal.store.exchange import Command, Reply
from qmodal.store.line import (
    LOST,
    NOTHING,
    READ_SECONDS,
    Address,
    new_reader,
    pack,
    raise_said,
    refused,
)

_KINDS: dict[type, type[asyncio_connection.AbstractConnection]] = {
    UnixDomainSocketConnection: asyncio_connection.UnixDomainSocketConnection,
    SSLConnection: asyncio_connection.SSLConnection,
}


class _Replies(asyncio.Protocol):
    """What a connection receives, parsed: one reader at a time waits for the next reply.

    Takes the place of redis-py's stream once it has connected: stream, lock and timeout contexts
    cost more than the rest of a call.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.BaseTransport) -> None:
        self._loop = loop
        self._transport = transport
        self._gets = (reader := new_reader()).gets
        self._feed = reader.feed
        self._waiter: asyncio.Future[None] | None = None
        self._lost: Exception | None = None
        self._writable: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        self._feed(data)
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, BrokenPipeError | ConnectionResetError):
            self._feed(_unread(self._transport))
        self._lost = exc or redis_errors.ConnectionError("the server closed the connection")
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def writable(self) -> None:
        """Wait until what was written has left for the kernel, as far as it has room."""
        if self._writable is not None:
            async with asyncio.timeout(READ_SECONDS):
                await self._writable
        if self._lost is not None:
            raise self._lost

    def said(self) -> Reply:
        """What has been received and not been read."""
        return self._gets()

    async def next(self) -> Reply:
        """The next reply; raises TimeoutError after READ_SECONDS of silence, and why the line ended."""
        reply = self._gets()
        if reply is not NOTHING:
            return reply
        try:
            while reply is NOTHING:
                if self._lost is not None:
                    raise self._lost
                # Anew for each part: a large reply on a slow line takes as long as it takes.
                late = self._loop.call_later(READ_SECONDS, self._expire)
                self._waiter = self._loop.create_future()
                try:
                    await self._waiter
                finally:
                    late.cancel()
                reply = self._gets()
            return reply
        finally:
            self._waiter = None

    def _expire(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TimeoutError("the server does not answer"))


def _unread(transport: asyncio.BaseTransport) -> bytes:
    """What a server has said that ended the connection before we wrote, so that writing failed first."""
    sock = transport.get_extra_info("socket")
    if sock is None or transport.get_extra_info("sslcontext") is not None:
        return b""
    try:
        return os.read(sock.fileno(), 65536)
    except OSError:
        return b""


class AsyncLine:
    """An asyncio connection; one exchange at a time."""

    __slots__ = ("_connection", "_replies", "_transport")

    def __init__(self, address: Address) -> None:
        parameters: dict[str, Any] = address.parameters()
        # With a timeout of its own redis-py writes under `wait_for`, which before Python 3.12 loses
        # a cancellation that arrives together with the end: tasks that were to stop went on.
        parameters["socket_timeout"] = None
        kind = _KINDS.get(parameters.pop("connection_class"), asyncio_connection.Connection)
        self._connection = kind(retry=Retry(NoBackoff(), 0), **parameters)
        self._transport: asyncio.WriteTransport | None = None
        self._replies: _Replies | None = None

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
        self._take_over()

    def _take_over(self) -> None:
        writer = self._connection._writer
        assert writer is not None
        self._transport = transport = writer.transport
        self._replies = _Replies(asyncio.get_running_loop(), transport)
        transport.set_protocol(self._replies)

    async def write(self, commands: Sequence[Command]) -> None:
        """Send the commands in one write."""
        if self._replies is None or self._transport is None:
            raise redis_errors.ConnectionError("not connected")
        self._transport.write(pack(commands))
        try:
            await self._replies.writable()
        except LOST:
            raise_said([self._replies.said()])
            raise

    async def read(self) -> Reply:
        """The next reply; an error reply is returned, not raised. A lost connection raises."""
        if self._replies is None:
            raise redis_errors.ConnectionError("not connected")
        return await self._replies.next()

    async def replies(self, count: int) -> list[Reply]:
        """The next replies, as `read` gives them; what a server says before it hangs up is raised."""
        found: list[Reply] = []
        try:
            while len(found) < count:
                found.append(await self.read())
        except LOST:
            raise_said(found)
            raise
        return found

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send, then read exactly as many replies as were sent."""
        await self.write(commands)
        return await self.replies(len(commands))

    def abandon(self) -> None:
        """End the connection of a loop that is closed and can do nothing any more."""
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        """Drop the connection without waiting for the peer."""
        if self._transport is not None:
            self._transport.abort()
        self._transport = self._replies = None
        await self._connection.disconnect(nowait=True)
