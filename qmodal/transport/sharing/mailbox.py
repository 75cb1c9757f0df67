"""The mailbox of calls that are under way together: one blocking read brings the outcomes of all of them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Sequence

from qmodal.exception import Error
from qmodal.transport.aio_connection import AsyncConnection
from qmodal.transport.connection import LOST, READ_SECONDS
from qmodal.transport.errors import PASSING, judge
from qmodal.transport.operation import Command, Reply
from qmodal.transport.sharing.letter import Letter
from qmodal.transport.sharing.link import Connect

# The longest wait of a read, and how long a mailbox that nobody needs goes on reading at the most.
BLOCK_MS = 5000
MOST_AT_ONCE, MOST_KEPT = 1000, 10_000
# The lifetime of a stream of replies, and after what time it is renewed by whoever waits.
STREAM_MS, RENEW_REPLIES_SECONDS = 60_000, 15.0
RETRY_SECONDS = 0.2
# Fields of an entry for each letter: its token, and the three of its content.
PER_LETTER = 4


class Mailbox:
    """Reads the streams that its letters come from; in the thread of its loop, but for `letter` and what letters call."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._letters: dict[bytes, Letter] = {}
        self._connection: AsyncConnection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._is_waiting = False  # until it connects again
        self._unanswered = 0
        self._heard_at = 0.0
        self._is_doubted = False
        self._rename()

    def _rename(self) -> None:
        self.name = secrets.token_hex(8)
        self._cursors: dict[str, bytes] = {}
        self._renewed: dict[str, float] = {}
        self._delivered: set[str] = set()

    def letter(self, stream: str, token: str) -> Letter:
        """The letter of that token, from now on."""
        made = Letter(self, stream, token)
        self._letters[made.token] = made
        return made

    def adopt(self, letter: Letter) -> None:
        """Bring a letter that waits for another mailbox, which was closed."""
        if letter.box is not self:
            letter.box = self
            self._letters[letter.token] = letter

    def forget(self, letter: Letter) -> None:
        """Nobody waits for it any more."""
        self._letters.pop(letter.token, None)

    def doubt(self) -> None:
        """A letter has not come: make the streams anew, and read them from their start."""
        self._is_doubted = True

    def prepare(self, stream: str, now: float) -> tuple[Command, ...]:
        """Read that stream from now on; what has to be sent before anything that leads to letters there."""
        if self._is_doubted:
            self._is_doubted = False
            self._renewed.clear()
            self._cursors = dict.fromkeys(self._cursors, b"0")
        if (
            now - self._renewed.get(stream, -RENEW_REPLIES_SECONDS) < RENEW_REPLIES_SECONDS
            and self._is_reading
        ):
            return ()
        self._renewed[stream] = now
        return tuple(self._made(stream))

    def _made(self, stream: str) -> Iterator[Command]:
        yield (b"XADD", stream, b"MAXLEN", b"~", MOST_KEPT, b"*", b"begin", b"")
        yield (b"PEXPIRE", stream, STREAM_MS)
        if stream not in self._cursors:
            # The read that is under way knows nothing of this stream, so it has to end.
            for known in list(self._cursors)[:1] if self._is_reading else ():
                yield (b"XADD", known, b"NOMKSTREAM", b"*", b"begin", b"")
            self._cursors[stream] = b"0"
        if not self._is_reading:
            self._begin()

    def failed(self, stream: str) -> None:
        """What `prepare` said could not be sent."""
        self._renewed.pop(stream, None)

    @property
    def _is_reading(self) -> bool:
        return not (self._connection is None and self._opening is None and not self._is_waiting)

    def _begin(self) -> None:
        self._is_waiting = False
        self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        try:
            connection = await self._connect()
        except (*LOST, Error):
            self._again()  # who waits looks for its outcome, and hears of the error there
        else:
            self._connection = connection
            connection.listen(self._hear, self._lost)
            self._read(connection)
        finally:
            self._opening = None

    def _read(self, connection: AsyncConnection) -> None:
        trims = [(b"XTRIM", name, b"MINID", b"~", self._cursors[name]) for name in self._delivered]
        self._delivered.clear()
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

    def _hear(self, reply: Reply) -> None:
        self._unanswered -= 1
        if self._unanswered:
            return
        connection = self._connection
        assert connection is not None
        if isinstance(reply, Exception):
            if judge(reply) not in PASSING:  # somebody else's value is where a stream should be
                self._rename()
            self._lost(reply)
        elif reply is None and not self._letters:
            self._drop()
        else:
            self._deliver(reply or ())
            self._read(connection)

    def _deliver(
        self, reply: Sequence[tuple[bytes, Sequence[tuple[bytes, Sequence[bytes]]]]]
    ) -> None:
        letters = self._letters
        for raw, entries in reply:
            stream = raw.decode()
            self._delivered.add(stream)
            self._cursors[stream] = entries[-1][0]
            for _, fields in entries:
                for at in range(0, len(fields) - PER_LETTER + 1, PER_LETTER):
                    letter = letters.get(fields[at])
                    if letter is not None:
                        letter.bring(fields[at + 1 : at + PER_LETTER])

    def _lost(self, _error: Exception) -> None:
        self._is_doubted = True  # a server that was started anew may have lost the streams
        self._drop()
        self._again()

    def _again(self) -> None:
        if self._letters and not self._is_waiting:
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
        """Give up a connection that has been silent for longer than a read takes."""
        if self._connection is not None and now - self._heard_at > READ_SECONDS:
            self._lost(TimeoutError("the server does not answer"))

    def close(self) -> None:
        """Close the connection; letters do not come any more."""
        if self._opening is not None:
            self._opening.cancel()
        self._is_waiting = False
        self._drop()

    def abandon(self) -> None:
        """End the connection of a loop that will not run any more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()
