"""One asyncio connection to Redis: as `connection`, for an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from qmodal.transport.connection import (
    LOST,
    NOTHING,
    READ_SECONDS,
    Address,
    new_reader,
    pack,
    raise_said,
)
from qmodal.transport.errors import LostError
from qmodal.transport.operation import Command, Packed, Reply
from qmodal.transport.sockets.aio_socket import LoopSocket
from qmodal.transport.sockets.endpoint import Endpoint
from qmodal.transport.sockets.login import check_login
from qmodal.transport.sockets.opening import open_async

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection


class _Replies(asyncio.Protocol):
    """What a connection receives, parsed: one reader at a time waits for the next reply.

    A stream, its lock and its timeout contexts would cost more than the rest of a call.
    """

    def __init__(self) -> None:
        self._gets = (reader := new_reader()).gets
        self._feed = reader.feed
        self._waiter: asyncio.Future[None] | None = None
        # If nobody reads: called with each reply, and with the reason when the connection ends.
        self._on_reply: Callable[[Reply], None] | None = None
        self._on_end: Callable[[Exception], None] | None = None
        self._lost: Exception | None = None
        self._writable: asyncio.Future[None] | None = None
        self.parts = 0

    def data_received(self, data: bytes) -> None:
        self.parts += 1
        self._feed(data)
        if self._on_reply is None:
            self._wake()
        else:
            self._pass_on()

    def _pass_on(self) -> None:
        try:
            while self._on_reply is not None and (reply := self._gets()) is not NOTHING:
                self._on_reply(reply)
        except LostError as error:
            self.connection_lost(error)

    def listen(
        self, on_reply: Callable[[Reply], None] | None, on_end: Callable[[Exception], None] | None
    ) -> None:
        """Call these with what comes, from now on."""
        self._on_reply, self._on_end = on_reply, on_end

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = exc or LostError("the server closed the connection")
        self._wake()
        if self._on_end is not None:
            self._on_end(self._lost)
        self.resume_writing()

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

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
        self.check()

    def check(self) -> None:
        """Raise why the connection ended, if it has."""
        if self._lost is not None:
            raise self._lost

    def said(self) -> Reply:
        """What has been received and not been read."""
        return self._gets()

    async def next(self, more: float = 0.0) -> Reply:
        """The next reply; raises TimeoutError after READ_SECONDS of silence, or `more`, and why the connection ended."""
        reply = self._gets()
        if reply is not NOTHING:
            return reply
        loop = asyncio.get_running_loop()
        try:
            while reply is NOTHING:
                self.check()
                # Anew for each part: a large reply on a slow connection takes as long as it takes.
                late = loop.call_later(READ_SECONDS + more, self._expire)
                self._waiter = loop.create_future()
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


class _Secured:
    """The transport of a TLS connection, which cannot be parted from its loop."""

    __slots__ = ("_connection", "_pid", "_replies", "_transport")

    def __init__(
        self,
        connection: AbstractConnection,
        transport: asyncio.WriteTransport,
        replies: _Replies,
    ) -> None:
        self._connection = connection
        self._transport = transport
        self._replies = replies
        self._pid = os.getpid()
        transport.set_protocol(replies)

    async def write(self, data: bytes) -> None:
        """Give it to the transport, and wait while that has too much."""
        self._transport.write(data)
        await self._replies.writable()

    def push(self, data: bytes) -> bytes:
        """Give it to the transport, which takes all."""
        self._transport.write(data)
        return b""

    def close(self) -> None:
        """Drop the connection in its running loop."""
        self._transport.abort()
        self._connection._close()

    def abandon(self) -> None:
        """End the connection of a loop that can do nothing any more; not the parent's, in a fork."""
        if self._pid == os.getpid():
            with contextlib.suppress(OSError):
                self._transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


class AsyncConnection:
    """An asyncio connection; one exchange at a time."""

    __slots__ = ("_address", "_replies", "_wire")

    def __init__(self, address: Address) -> None:
        self._address = address
        self._wire: LoopSocket | _Secured | None = None
        self._replies: _Replies | None = None

    async def connect(self) -> None:
        """Connect and log in; raises LOST and ConfigurationError."""
        address = self._address
        endpoint = address.plain()
        try:
            async with asyncio.timeout(READ_SECONDS):
                if address.is_watched:  # to ask the Sentinels blocks, so a thread does it
                    loop = asyncio.get_running_loop()
                    address = await loop.run_in_executor(None, address.master)
                    endpoint = address.plain()
                if endpoint is None:
                    await self._open_by_redis_py(address.url)
                else:
                    await self._open(endpoint)
        except BaseException as error:  # a cancelled task, too
            await self.close()
            if isinstance(error, TimeoutError):
                raise TimeoutError("the server does not answer") from None
            raise

    async def _open(self, endpoint: Endpoint) -> None:
        sock = await open_async(endpoint)
        self._watch(sock)
        if commands := endpoint.login():
            check_login(await self.exchange(commands))

    def _watch(self, sock: socket.socket) -> None:
        """Have the loop read from the socket, which is closed if it cannot."""
        replies = _Replies()
        try:
            self._wire = LoopSocket(sock, replies)
        except BaseException:
            sock.close()
            raise
        self._replies = replies

    async def _open_by_redis_py(self, url: str) -> None:
        from qmodal.transport.sockets import (
            redis_py,
        )  # only here: it is large, and few URLs need it

        connection = await redis_py.open_async(url)
        try:
            self._take_over(connection)
        except OSError:  # no descriptor is left
            connection._close()
            raise

    def _take_over(self, connection: AbstractConnection) -> None:
        writer = connection._writer
        assert writer is not None
        transport = writer.transport
        if transport.get_extra_info("ssl_object") is not None:
            self._replies = replies = _Replies()
            self._wire = _Secured(connection, transport, replies)
            return
        made = transport.get_extra_info("socket")
        sock = socket.fromfd(made.fileno(), made.family, made.type)
        # Only its descriptor goes: the connection is that of the copy.
        transport.abort()
        connection._close()
        self._watch(sock)

    async def write(self, commands: Sequence[Packed]) -> None:
        """Send the commands in one write."""
        replies, wire = self._replies, self._wire
        if replies is None or wire is None:
            raise LostError("not connected")
        try:
            replies.check()
            await wire.write(pack(commands))
        except LOST:  # it may have been dropped meanwhile
            raise_said([replies.said()])
            raise

    def listen(
        self, on_reply: Callable[[Reply], None], on_end: Callable[[Exception], None]
    ) -> None:
        """Call `on_reply` with each reply from now on, and `on_end` if the connection ends; nobody reads."""
        if self._replies is not None:
            self._replies.listen(on_reply, on_end)

    def push(self, commands: Sequence[Command]) -> bytes:
        """Send the commands without waiting; what the kernel has no room for, which `write` takes."""
        if self._replies is None or self._wire is None:
            raise LostError("not connected")
        self._replies.check()
        return self._wire.push(pack(commands))

    @property
    def parts(self) -> int:
        """How often something was received: a large reply comes in parts, for as long as it takes."""
        return 0 if self._replies is None else self._replies.parts

    async def read(self, more: float = 0.0) -> Reply:
        """The next reply; an error reply is returned, not raised. A lost connection raises.

        `more`: seconds that it may take beyond what is usual.
        """
        if self._replies is None:
            raise LostError("not connected")
        return await self._replies.next(more)

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

    async def close(self) -> None:
        """Drop the connection without waiting for the peer."""
        self.drop()

    def drop(self) -> None:
        """As `close`."""
        wire, self._wire = self._wire, None
        replies, self._replies = self._replies, None
        if replies is not None:
            replies.listen(None, None)
        if wire is not None:
            wire.close()

    def abandon(self) -> None:
        """End the connection of a loop that will not run any more."""
        wire, self._wire, self._replies = self._wire, None, None
        if wire is not None:
            wire.abandon()
