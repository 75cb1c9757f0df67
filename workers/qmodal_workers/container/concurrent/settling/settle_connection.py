"""The loop's own connection for outcomes: they are written beside a claim that waits for inputs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from qmodal.client.client import Client
from qmodal.exception import ConfigurationError
from qmodal.store.entries import Settled
from qmodal.transport.connection import LOST, Address, Connection
from qmodal.transport.errors import LostError
from qmodal.transport.operation import Reply
from qmodal_workers.container.concurrent.settling.watched_socket import WatchedSocket
from qmodal_workers.container.process import forked_children

# One write is about as large, which the kernel has room for: the loop never waits to write.
WRITE_BYTES = 128 * 1024


class _Outcomes(NamedTuple):
    """What is settled together, and the rows of that."""

    settled: Sequence[Settled]
    rows: list[int]


@dataclass(slots=True)
class SettleConnection:
    """Settles outcomes without waiting; by the thread of the loop, but for `connect`.

    One write at a time is unanswered, and what comes meanwhile goes with the next one: so there are as few
    as the server can take, and none is held back.
    `on_settled` is called with the rows of what is settled, and whether all of it was ours; `on_failed`
    with outcomes that another connection has to settle, and their rows, `on_written` with those that are written.
    """

    client: Client
    pool: str
    on_settled: Callable[[list[int], bool], None]
    on_failed: Callable[[Sequence[Settled], list[int]], None]
    on_written: Callable[[Sequence[Settled]], None] = lambda _: None
    is_lost: bool = True
    _connection: Connection | None = None
    _watched: WatchedSocket = field(default_factory=WatchedSocket)
    _sent: deque[_Outcomes] = field(default_factory=deque)
    _waiting: deque[_Outcomes] = field(default_factory=deque)

    def connect(self) -> bool:
        """By another thread, while the connection is lost and nobody uses it: whether there is one now."""
        if self._connection is not None:  # a turn of the loop was over before it came to that
            self._connection.close()
        connection = Connection(Address(self.client.settings.redis_url or ""))
        try:
            connection.connect()
        except (*LOST, ConfigurationError):
            connection.close()
            return False
        self._connection = connection
        return connection.is_pollable

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the loop read the answers of a connection that was just made; raises LOST."""
        if self._connection is not None and self.is_lost:
            self._watched.watch(loop, self._connection.watchable(), self._read)
            self.is_lost = False

    def settle(self, settled: Sequence[Settled], rows: list[int]) -> bool:
        """Have these outcomes written; False if there is no connection for that."""
        if self.is_lost:
            return False
        self._waiting.append(_Outcomes(settled, rows))
        if not self._sent:
            self._write()
        return True

    def _write(self) -> None:
        settled: list[Settled] = []
        room = WRITE_BYTES
        while self._waiting and room > 0:
            one = self._waiting.popleft()
            self._sent.append(one)
            settled += one.settled
            room -= sum([len(each.outcome) for each in one.settled])
        connection = self._connection
        try:
            if connection is None:
                raise LostError("not connected")
            connection.push((self.client.pools.settle_command(self.pool, settled),))
        except LOST:
            self._lose()

    def _read(self) -> None:
        connection = self._connection
        if forked_children.is_child() or connection is None:
            return
        try:
            for reply in connection.arrived():
                self._take(reply)
            if self._waiting and not self._sent:
                self._write()
        except LOST:
            self._lose()

    def _take(self, reply: Reply) -> None:
        if isinstance(reply, Exception) or not self._sent:
            raise LostError(str(reply))
        rows = [row for one in self._sent for row in one.rows]
        for one in self._sent:
            self.on_written(one.settled)
        self._sent.clear()
        self.on_settled(rows, 0 not in reply[1:])

    def _lose(self) -> None:
        """What is unanswered is settled elsewhere; a second time does no harm."""
        self._watched.end()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        failed = [*self._sent, *self._waiting]
        self._sent.clear()
        self._waiting.clear()
        for one in failed:
            self.on_failed(*one)
        self.is_lost = True  # from here on another thread may connect

    def finish(self) -> None:
        """Wait until all is settled, or given to others to settle; the loop runs no more."""
        with suppress(*LOST):
            if self._sent and self._connection is not None:
                self._take(self._connection.read())
        self._lose()
