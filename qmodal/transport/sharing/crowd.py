"""What the calls share that are under way together in one event loop: a link, a mailbox, and a clock."""

from __future__ import annotations

import asyncio
from collections import deque

from redis import exceptions as redis_errors

from qmodal.transport.aio_connection import AsyncConnection
from qmodal.transport.connection import Address
from qmodal.transport.operation import Command, Exchange, Reply
from qmodal.transport.sharing.link import Link, Posting
from qmodal.transport.sharing.mailbox import Mailbox

# How often those are looked for that have waited for long enough.
TICK_SECONDS = 0.25


class Crowd:
    """Carries out exchanges on the link, and waits for the letters that they say."""

    def __init__(self, address: Address, later: deque[Command]) -> None:
        self._address = address
        self.link = Link(self._connect, later)
        self.mailbox = Mailbox(self._connect)
        # Those that wait for letters, until a time by the loop's clock.
        self._waiting: dict[Posting, None] = {}
        # A loop that is dropped frees its connections; a handle kept here would keep the loop.
        self._ticks = False

    async def _connect(self) -> AsyncConnection:
        connection = AsyncConnection(self._address)
        await connection.connect()
        return connection

    def post(self, posting: Posting) -> None:
        """Send it with others; its letter, if it waits for one, may come from now on."""
        loop = asyncio.get_running_loop()
        request = posting.request
        if request.letter is not None:
            now = loop.time()
            self.mailbox.adopt(request.letter)
            self._prepare(request.letter.stream, now)
            posting.deadline = now + request.seconds
            self._waiting[posting] = None
        if request.commands or request.part:
            self.link.post(posting)
        else:
            posting.answered()
        if not self._ticks:
            self._ticks = True
            loop.call_later(TICK_SECONDS, self._look)

    def leave(self, posting: Posting) -> None:
        """Nobody waits for it any more; what was not sent yet never is."""
        self._waiting.pop(posting, None)
        posting.is_over = True

    def _prepare(self, stream: str, now: float) -> None:
        commands = self.mailbox.prepare(stream, now)
        if not commands:
            return

        def done(result: list[Reply] | Exception) -> None:
            if isinstance(result, Exception):
                self.mailbox.failed(stream)

        self.link.post(Posting(Exchange(commands), done))

    def _look(self) -> None:
        """End the wait of those whose letter has not come in time, and connections that are silent."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self.link.check(now)
        self.mailbox.check(now)
        for posting in [each for each in self._waiting if each.deadline <= now]:
            # Without its replies it waits for these: the link says how that ends.
            if posting.is_answered:
                posting.end(posting.replies)
        self._ticks = bool(self._waiting) or not self.link.is_idle
        if self._ticks:
            loop.call_later(TICK_SECONDS, self._look)

    def close(self) -> None:
        """Close the connections; what waits fails."""
        self.mailbox.close()
        self.link.close()
        for posting in list(self._waiting):
            posting.end(redis_errors.ConnectionError("the connection was closed"))

    def abandon(self) -> None:
        """End the connections of a loop that will not run any more."""
        self.mailbox.abandon()
        self.link.abandon()
