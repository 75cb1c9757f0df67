"""A link: one connection on which the exchanges of many callers go out together, in the thread of its loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar

from redis import exceptions as redis_errors

from qmodal.exception import Error
from qmodal.transport.aio_connection import AsyncConnection
from qmodal.transport.connection import LOST, READ_SECONDS
from qmodal.transport.errors import ReplyAction, judge
from qmodal.transport.operation import Command, Exchange, Reply
from qmodal.transport.script import load_commands
from qmodal.transport.sharing.deferred import take_later
from qmodal.transport.waiting import is_refused

T = TypeVar("T")
# A script that does more at once keeps others from the server.
MOST_JOINED = 64
# Commands that were put off and go ahead of one write; each deletes what up to a hundred did.
MOST_BEFORE = 100
Connect = Callable[[], Awaitable[AsyncConnection]]
Done = Callable[["list[Reply] | Exception"], None]


class Posting:
    """An exchange on a link; `done` is told its replies, the letter's content behind them if it has
    come, or why it failed, once."""

    __slots__ = ("_done", "deadline", "is_answered", "is_over", "replies", "request")

    def __init__(self, request: Exchange, done: Done) -> None:
        self.request = request
        self.replies: list[Reply] = []
        self.is_answered = False
        self.deadline = 0.0
        self.is_over = False
        self._done = done

    def take(self, reply: Reply) -> bool:
        """Take one of its replies; whether that was the last one."""
        self.replies.append(reply)
        return len(self.replies) >= len(self.request.commands)

    def answered(self) -> None:
        """All its replies are there: it ends, or waits for its letter if they are as expected."""
        self.is_answered = True
        letter = self.request.letter
        if letter is None or is_refused(self.request, self.replies):
            self.end(self.replies)
            return
        letter.heard = self._hear
        if letter.content is not None:
            self._hear()

    def _hear(self) -> None:
        letter = self.request.letter
        if letter is not None:
            # Once only: whoever cannot make sense of it goes on waiting.
            content, letter.content = letter.content, None
            self.end([*self.replies, content])

    def end(self, result: list[Reply] | Exception) -> None:
        """It ends like this, unless it has ended."""
        if self.is_over:
            return
        self.is_over = True
        letter = self.request.letter
        if letter is not None:
            letter.heard = None
        self._done(result)


def joined(batch: list[Posting]) -> list[Posting]:
    """The batch with one posting in place of those that one command can stand for, in the place of the first."""
    groups: list[list[Posting]] = []
    open_ones: dict[Hashable, list[Posting]] = {}
    for posting in batch:
        kind = posting if (part := posting.request.part) is None else part.kind
        group = open_ones.get(kind)
        if group is None or len(group) == MOST_JOINED:
            open_ones[kind] = group = []
            groups.append(group)
        group.append(posting)
    return [_join(group) if group[0].request.part else group[0] for group in groups]


def _join(group: list[Posting]) -> Posting:
    parts = [part for posting in group if (part := posting.request.part) is not None]

    def done(result: list[Reply] | Exception) -> None:
        if isinstance(result, Exception):
            for posting in group:
                posting.end(result)
            return
        (reply,) = result
        replies = reply if isinstance(reply, list) else [reply] * len(group)
        for posting, own in zip(group, replies, strict=True):
            posting.take(own)
            posting.answered()

    return Posting(Exchange((parts[0].join([part.values for part in parts]),)), done)


class Link:
    """Writes what became ready in the same round of the loop in one write; the replies come in order.

    A connection that is lost fails whatever was sent on it or waits: each caller repeats its own.
    """

    def __init__(self, connect: Connect, later: deque[Command]) -> None:
        self._connect = connect
        self._later = later
        self._waiting: deque[Posting] = deque()
        self._sent: deque[Posting] = deque()
        self._connection: AsyncConnection | None = None
        # It connects, or gives the kernel what that had no room for.
        self._busy: asyncio.Task[None] | None = None
        self._is_due = False
        self._heard_at = 0.0
        # Whether this connection's server was told the scripts.
        self._is_loaded = False

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for it."""
        return not self._sent and not self._waiting

    def post(self, posting: Posting) -> None:
        """Send it with the next write."""
        self._waiting.append(posting)
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_due = False
        if self._busy is not None:
            return  # and flushes then
        batch = [posting for posting in self._waiting if not posting.is_over]
        if not batch:
            self._waiting.clear()
        elif self._connection is None:
            self._busy = asyncio.get_running_loop().create_task(self._open())
        else:
            self._waiting.clear()
            self._write(self._connection, batch)

    def _write(self, connection: AsyncConnection, batch: list[Posting]) -> None:
        if not self._sent:
            self._heard_at = asyncio.get_running_loop().time()
        batch = joined(batch)
        before = self._before()
        if before is not None:
            batch.insert(0, before)
        self._sent.extend(batch)
        commands = [command for posting in batch for command in posting.request.commands]
        try:
            rest = connection.push(commands)
        except LOST as error:
            self._end(error)
            return
        if rest:
            finish = self._finish(connection, rest)
            self._busy = asyncio.get_running_loop().create_task(finish)

    def _before(self) -> Posting | None:
        """What goes ahead of a write: the scripts on a new connection, and what was put off."""
        scripts = () if self._is_loaded else load_commands()
        self._is_loaded = True
        later: list[Command] = []
        while (
            self._later and len(later) < MOST_BEFORE
        ):  # many callers put off as much as they submit
            later += take_later(self._later)
        if not scripts and not later:
            return None

        def done(result: list[Reply] | Exception) -> None:
            if isinstance(
                result, Exception
            ):  # perhaps the server has not seen them; twice does no harm
                self._later.extendleft(reversed(later))

        return Posting(Exchange((*scripts, *later)), done)

    async def _finish(self, connection: AsyncConnection, rest: bytes) -> None:
        await self._do(connection.write((rest,)))
        self._busy = None
        self._flush()

    async def _open(self) -> None:
        connection = await self._do(self._connect())
        self._busy = None
        if connection is not None:
            self._connection = connection
            self._is_loaded = False
            connection.listen(self._hear, self._end)
            self._flush()

    async def _do(self, work: Awaitable[T]) -> T | None:
        """The result of the work; None if it failed, as all that waits has then."""
        try:
            return await work
        except (*LOST, Error) as error:
            self._busy = None
            self._end(error)
        except BaseException:  # a loop that ends cancels all tasks
            self._busy = None
            self._end(redis_errors.ConnectionError("the event loop ends"))
            raise
        return None

    def _hear(self, reply: Reply) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        posting = self._sent[0]
        if posting.take(reply):
            self._sent.popleft()
            posting.answered()
        if isinstance(reply, Exception):
            self._repair(judge(reply))

    def _repair(self, verdict: ReplyAction) -> None:
        if verdict is ReplyAction.LOAD:
            self._is_loaded = False
        elif verdict in (ReplyAction.RECONNECT, ReplyAction.LOADING):
            self._end(redis_errors.ConnectionError("the server cannot serve now"))

    def _end(self, error: Exception) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()
        lost = [*self._sent, *self._waiting]
        self._sent.clear()
        self._waiting.clear()
        for posting in lost:
            posting.end(error)

    def check(self, now: float) -> None:
        """Give up a connection that has been silent for too long; `now` by the loop's clock."""
        if self._sent and now - self._heard_at > READ_SECONDS:
            self._end(TimeoutError("the server does not answer"))

    def close(self) -> None:
        """Close the connection; what waits fails."""
        if self._busy is not None:
            self._busy.cancel()
        self._end(redis_errors.ConnectionError("the connection was closed"))

    def abandon(self) -> None:
        """End the connection of a loop that will not run any more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()
