"""Carries out the exchanges of many calls of one event loop on two connections: one to send, one to read replies."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from qmodal.transport.aio_connection import AsyncConnection
from qmodal.transport.connection import Address
from qmodal.transport.errors import LostError
from qmodal.transport.operation import Command, Exchange, Reply
from qmodal.transport.sharing.pending_call import PendingCall
from qmodal.transport.sharing.pending_exchange import PendingExchange
from qmodal.transport.sharing.pending_reply import PendingReply
from qmodal.transport.sharing.reply_reader import ReplyReader
from qmodal.transport.sharing.shared_connection import SharedConnection

# How often those are looked for that have waited for long enough.
TICK_SECONDS = 0.25


class Multiplexer:
    """A shared connection, a reply reader, and a timer for what waits too long.

    `later`: what was put off, which it sends along.
    """

    def __init__(self, address: Address, later: deque[Command]) -> None:
        self._address = address
        self._connection = SharedConnection(self._connect, later)
        self.reader = ReplyReader(self._connect)
        # What has a pending reply.
        self._waiting: dict[PendingExchange | PendingCall, None] = {}
        # No handle of the timer: it would keep a loop that is dropped, whose end frees the connections.
        self._has_timer = False
        self.is_closed = False

    @property
    def waiting(self) -> int:
        """How many wait for a pending reply."""
        return len(self._waiting)

    async def _connect(self) -> AsyncConnection:
        connection = AsyncConnection(self._address)
        await connection.connect()
        return connection

    def submit(self, pending: PendingExchange) -> None:
        """Send it with others; its pending reply, if it has one, is delivered from now on."""
        request = pending.request
        reply = request.pending_reply
        if reply is not None:
            self._await(pending, reply, request.seconds)
        if request.commands or request.mergeable:
            self._connection.submit(pending)
        else:
            pending.answered()
        if not self._has_timer:
            self._start_timer()

    def call(self, pending: PendingCall) -> None:
        """Send a new call with others; its reply is delivered from now on."""
        self._await(pending, pending, pending.seconds)
        self._connection.submit(pending)
        if not self._has_timer:
            self._start_timer()

    def _await(
        self, pending: PendingExchange | PendingCall, reply: PendingReply, seconds: float
    ) -> None:
        now = asyncio.get_running_loop().time()
        commands = self.reader.expect(reply, now)
        if commands:
            self._open_stream(reply.stream, commands)
        pending.deadline = now + seconds
        self._waiting[pending] = None

    def _start_timer(self) -> None:
        self._has_timer = True
        asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def leave(self, pending: PendingExchange | PendingCall) -> None:
        """Nobody waits for it any more; what was not sent yet never is."""
        self._waiting.pop(pending, None)
        pending.leave()

    def _open_stream(self, stream: str, commands: Sequence[Command]) -> None:
        def done(result: list[Reply] | Exception) -> None:
            if isinstance(result, Exception):
                self.reader.failed(stream)

        self._connection.submit(PendingExchange(Exchange(tuple(commands)), done))

    def _tick(self) -> None:
        """End the wait of those whose pending reply has not arrived in time, and silent connections."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._connection.check(now)
        self.reader.check(now)
        for pending in [each for each in self._waiting if each.deadline <= now]:
            pending.expire()
        self._has_timer = bool(self._waiting) or not self._connection.is_idle
        if self._has_timer:
            loop.call_later(TICK_SECONDS, self._tick)

    def close(self) -> None:
        """Close the connections for good; what waits fails, and nothing may be sent any more."""
        self.is_closed = True
        self.reader.close()
        self._connection.close()
        for pending in list(self._waiting):
            pending.end(LostError("the connection was closed"))

    def abandon(self) -> None:
        """End the connections of a loop that will not run any more."""
        self.reader.abandon()
        self._connection.abandon()
