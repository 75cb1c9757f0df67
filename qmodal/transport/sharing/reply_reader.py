"""Reads the reply streams of a client: one blocking read brings the outcomes of all calls under way together."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Sequence

from qmodal.exception import Error
from qmodal.transport.aio_connection import AsyncConnection
from qmodal.transport.connection import LOST, READ_SECONDS
from qmodal.transport.errors import PASSING, judge
from qmodal.transport.operation import Command, Reply
from qmodal.transport.sharing.pending_reply import PendingReply
from qmodal.transport.sharing.shared_connection import Connect

# The longest wait of a read, and how long one that nobody needs goes on at the most.
BLOCK_MS = 5000
MOST_AT_ONCE, MOST_KEPT = 1000, 10_000
# The lifetime of a reply stream, and after what time it is renewed by whoever waits.
STREAM_MS, RENEW_REPLIES_SECONDS = 60_000, 15.0
RETRY_SECONDS = 0.2
# Fields of an entry for each reply: its token, and the three of its content.
PER_REPLY = 4
# What was delivered is deleted once it takes about so much of the server's memory: a trim is a command, and its
# answer wakes this process once more than the replies do. REPLY_BYTES: a reply beside its content.
UNTRIMMED_BYTES, REPLY_BYTES = 16 * 1024, 128


class ReplyReader:
    """Reads reply streams, and delivers what is pending; used in the thread of its loop.

    Other threads may make, close and miss pending replies, and read `reply_to`, which names the
    streams: there is one for each shard.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._pending: dict[bytes, PendingReply] = {}
        self._connection: AsyncConnection | None = None
        self._opening: asyncio.Task[AsyncConnection] | None = None
        self._is_waiting = False  # until it connects again
        self._unanswered = 0
        self._heard_at = 0.0
        self._parts = 0  # that the connection had received at the last look
        self._must_reset = False
        self._is_closed = False
        # Streams in whose place was something else; nothing is read or written there.
        self._unusable: set[str] = set()
        self._rename()

    def _rename(self) -> None:
        self.reply_to = secrets.token_hex(8)
        self._cursors: dict[str, bytes] = {}
        self._renewed: dict[str, float] = {}
        self._delivered: set[str] = set()
        self._untrimmed = 0  # bytes that were delivered from those

    def expect(self, pending: PendingReply, now: float) -> Sequence[Command]:
        """Deliver it from now on; what has to be sent before anything that leads to a reply.

        `now` in seconds of the loop's clock. It may have been made for another reader, which was closed.
        """
        token = pending.token
        if self._pending.get(token) is not pending:
            self._pending[token] = pending
            pending.source = self
            if pending.is_closed:  # by another thread; whoever closes it looks at its source last
                self.remove(pending)
        return self._prepare(pending.stream, now)

    def remove(self, pending: PendingReply) -> None:
        """Deliver nothing to it any more."""
        self._pending.pop(pending.token, None)

    def reset(self) -> None:
        """Make the streams anew with the next submission, and read them from their start."""
        self._must_reset = True

    def _prepare(self, stream: str, now: float) -> Sequence[Command]:
        if self._must_reset:
            self._must_reset = False
            self._renewed.clear()
            self._cursors = dict.fromkeys(self._cursors, b"0")
        renewed = self._renewed.get(stream)
        if renewed is not None and now - renewed < RENEW_REPLIES_SECONDS and self._is_reading:
            return ()
        if stream in self._unusable:
            return ()
        self._renewed[stream] = now
        return list(self._made(stream))

    def _made(self, stream: str) -> Iterator[Command]:
        yield (b"XADD", stream, b"MAXLEN", b"~", MOST_KEPT, b"*", b"begin", b"")
        yield (b"PEXPIRE", stream, STREAM_MS)
        if stream not in self._cursors:
            # The read under way does not include this stream, so it has to end. Any of the others ends it,
            # and some may be gone.
            for known in self._cursors if self._is_reading else ():
                yield (b"XADD", known, b"NOMKSTREAM", b"*", b"begin", b"")
            self._cursors[stream] = b"0"
        if not self._is_reading:
            self._begin()

    def failed(self, stream: str) -> None:
        """Take in that what `expect` returned could not be sent."""
        self._renewed.pop(stream, None)

    @property
    def _is_reading(self) -> bool:
        return not (self._connection is None and self._opening is None and not self._is_waiting)

    def _begin(self) -> None:
        self._is_waiting = False
        self._opening = asyncio.get_running_loop().create_task(self._connect())
        self._opening.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[AsyncConnection]) -> None:
        self._opening = None
        try:
            self._connection = connection = task.result()
        except (*LOST, Error):
            self._again()  # who waits looks for its outcome, and meets the error there
        except asyncio.CancelledError:
            pass  # it is closed, or the loop ends
        else:
            if self._is_closed:  # just before it was told
                self._drop()
                return
            connection.listen(self._receive, self._lost)
            self._read(connection)

    def _read(self, connection: AsyncConnection) -> None:
        trims: list[Command] = []
        if self._untrimmed >= UNTRIMMED_BYTES:
            cursors = self._cursors
            trims = [(b"XTRIM", name, b"MINID", b"~", cursors[name]) for name in self._delivered]
            self._delivered.clear()
            self._untrimmed = 0
        read = (b"XREAD", b"COUNT", MOST_AT_ONCE, b"BLOCK", BLOCK_MS, b"STREAMS")
        self._unanswered = len(trims) + 1
        self._heard_at = asyncio.get_running_loop().time()
        try:
            rest = connection.push([*trims, (*read, *self._cursors, *self._cursors.values())])
        except LOST as error:
            self._lost(error)
        else:
            if rest:  # a read is short, and its connection has nothing else under way
                self._lost(TimeoutError("the server reads nothing"))

    def _receive(self, reply: Reply) -> None:
        self._unanswered -= 1
        connection = self._connection
        if self._unanswered or connection is None:
            return
        if isinstance(reply, Exception):
            if judge(reply) not in PASSING:  # somebody else's value is where a stream should be
                self._unusable.update(self._cursors)
                self._rename()
            self._lost(reply)
        elif reply is None and not self._pending:
            self._rest()
        else:
            self._deliver(reply or ())
            self._read(connection)

    def _rest(self) -> None:
        """Close the connection, as nobody waits; streams that are made anew later are read from their start."""
        self._drop()
        self._must_reset = True
        self._unusable.clear()

    def _deliver(
        self, reply: Sequence[tuple[bytes, Sequence[tuple[bytes, Sequence[bytes]]]]]
    ) -> None:
        pending_replies = self._pending
        for raw, entries in reply:
            stream = raw.decode()
            self._delivered.add(stream)
            self._cursors[stream] = entries[-1][0]
            for _, fields in entries:
                for at in range(0, len(fields) - PER_REPLY + 1, PER_REPLY):
                    self._untrimmed += len(fields[at + PER_REPLY - 1]) + REPLY_BYTES
                    pending = pending_replies.get(fields[at])
                    if pending is not None:
                        pending.deliver(fields[at + 1 : at + PER_REPLY])

    def _lost(self, _error: Exception) -> None:
        self._must_reset = True  # a server that was started anew may have lost the streams
        self._drop()
        self._again()

    def _again(self) -> None:
        if self._pending and not self._is_waiting:
            self._is_waiting = True
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        if self._is_waiting:
            self._begin()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()

    def check(self, now: float) -> None:
        """Give up a connection that has been silent for longer than a read takes; `now` by the loop's clock."""
        parts = 0 if self._connection is None else self._connection.parts
        if parts != self._parts:
            self._parts, self._heard_at = parts, now
        if self._connection is not None and now - self._heard_at > READ_SECONDS:
            self._lost(TimeoutError("the server does not answer"))

    def close(self) -> None:
        """Close the connection for good; nothing is delivered any more."""
        self._is_closed = True
        if self._opening is not None:
            self._opening.cancel()
        self._is_waiting = False
        self._drop()

    def abandon(self) -> None:
        """End the connection of a loop that will not run any more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()
