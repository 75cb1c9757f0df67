"""One connection on which the exchanges of many callers are pipelined, in the thread of its event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from qmodal.exception import Error
from qmodal.transport.aio_connection import AsyncConnection
from qmodal.transport.connection import LOST, READ_SECONDS
from qmodal.transport.errors import LostError, ReplyAction, judge
from qmodal.transport.operation import Command, Exchange, Reply
from qmodal.transport.script import load_commands
from qmodal.transport.sharing.deferred import take_later
from qmodal.transport.sharing.pending_exchange import Outgoing, PendingExchange, merged

T = TypeVar("T")
# Commands that were put off and go ahead of one write; each deletes what up to a hundred did.
MOST_BEFORE = 100
Connect = Callable[[], Coroutine[Any, Any, AsyncConnection]]


class SharedConnection:
    """Sends what is submitted in the same round of the loop in one write; the replies come in order.

    A connection that is lost fails whatever was sent on it or waits: each caller repeats its own.
    `later`: what was put off, which goes ahead of a write.
    """

    def __init__(self, connect: Connect, later: deque[Command]) -> None:
        self._connect = connect
        self._later = later
        self._waiting: deque[Outgoing] = deque()
        self._sent: deque[Outgoing] = deque()
        self._connection: AsyncConnection | None = None
        # Connects, or gives the kernel what that had no room for.
        self._busy: asyncio.Task[Any] | None = None
        self._is_flush_due = False
        self._heard_at = 0.0
        self._parts = 0  # that the connection had received at the last look
        # Whether the scripts were loaded on this connection's server.
        self._is_loaded = False
        self._is_closed = False

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for it."""
        return not self._sent and not self._waiting

    def submit(self, pending: Outgoing) -> None:
        """Send it with the next write."""
        self._waiting.append(pending)
        if not self._is_flush_due:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        if self._busy is not None:
            return  # and flushes then
        batch = [pending for pending in self._waiting if not pending.is_over]
        if not batch:
            self._waiting.clear()
        elif self._connection is None:
            self._work(self._connect(), self._connected)
        else:
            self._waiting.clear()
            self._write(self._connection, batch)

    def _write(self, connection: AsyncConnection, batch: list[Outgoing]) -> None:
        if not self._sent:
            self._heard_at = asyncio.get_running_loop().time()
        batch = merged(batch)
        before = self._before()
        if before is not None:
            batch.insert(0, before)
        self._sent.extend(batch)
        commands = [command for pending in batch for command in pending.commands]
        try:
            rest = connection.push(commands)
        except LOST as error:
            self._fail(error)
            return
        if rest:
            self._work(connection.write((rest,)), self._written)

    def _before(self) -> PendingExchange | None:
        """What goes ahead of a write: the scripts on a new connection, and what was put off."""
        scripts = () if self._is_loaded else load_commands()
        self._is_loaded = True
        later: list[Command] = []
        while self._later and len(later) < MOST_BEFORE:  # callers put off as much as they submit
            later += take_later(self._later)
        if not scripts and not later:
            return None

        def done(result: list[Reply] | Exception) -> None:
            if isinstance(result, Exception):  # perhaps they were not received; twice does no harm
                self._later.extendleft(reversed(later))

        return PendingExchange(Exchange((*scripts, *later)), done)

    def _work(self, work: Coroutine[Any, Any, T], then: Callable[[T], None]) -> None:
        """Do it in a task, then the rest; nothing is written meanwhile. If it fails, all that waits does."""

        def ended(task: asyncio.Task[T]) -> None:
            self._busy = None
            try:
                result = task.result()
            except (*LOST, Error) as error:
                self._fail(error)
            except asyncio.CancelledError:  # by the end of the loop, also before its first step
                self._fail(LostError("the event loop ends"))
            else:
                then(result)

        self._busy = asyncio.get_running_loop().create_task(work)
        self._busy.add_done_callback(ended)

    def _connected(self, connection: AsyncConnection) -> None:
        if self._is_closed:  # just before it was told
            connection.drop()
            self._fail(LostError("the connection was closed"))
            return
        self._connection = connection
        self._is_loaded = False
        connection.listen(self._receive, self._fail)
        self._flush()

    def _written(self, _result: None) -> None:
        self._flush()

    def _receive(self, reply: Reply) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        if not self._sent:
            self._fail(LostError("a reply to nothing"))
            return
        pending = self._sent[0]
        if pending.take(reply):
            self._sent.popleft()
            pending.answered()
        if isinstance(reply, Exception):
            self._repair(judge(reply))

    def _repair(self, verdict: ReplyAction) -> None:
        if verdict is ReplyAction.LOAD:
            self._is_loaded = False
        elif verdict in (ReplyAction.RECONNECT, ReplyAction.LOADING):
            self._fail(LostError("the server cannot serve now"))

    def _fail(self, error: Exception) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()
        lost = [*self._sent, *self._waiting]
        self._sent.clear()
        self._waiting.clear()
        for pending in lost:
            pending.end(error)

    def check(self, now: float) -> None:
        """Give up a connection that has been silent for too long; `now` by the loop's clock."""
        parts = 0 if self._connection is None else self._connection.parts
        if parts != self._parts:
            self._parts, self._heard_at = parts, now
        if self._sent and now - self._heard_at > READ_SECONDS:
            self._fail(TimeoutError("the server does not answer"))

    def close(self) -> None:
        """Close the connection for good; what waits fails."""
        self._is_closed = True
        if self._busy is not None:
            self._busy.cancel()
        self._fail(LostError("the connection was closed"))

    def abandon(self) -> None:
        """End the connection of a loop that will not run any more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()
