"""Items of generators: appended by the container that runs one, removed by whoever reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from qmodal.store.keys import GROUP, Keys, Lane
from qmodal.store.results.outputs import Output, parse_outputs
from qmodal.transport.operation import Command, Exchange, Later, Op, ask, ask_one
from qmodal.transport.script import script

# Items that wait for their reader; a batch of large ones waits earlier, see ROOM_BYTES.
ROOM = 1024
ROOM_BYTES = 64 * 1024 * 1024
READ_COUNT = 100
WAIT_SECONDS = 5
ITEM_BLOB_MS = 3_600_000
Verdict = Literal["OK", "FULL", "CLOSED", "STALE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Emission:
    """Consecutive items of one attempt; `first` counts from 0."""

    pool: str
    container: str
    lane: Lane
    entry: str
    call: str
    index: int
    first: int
    signed: Sequence[bytes]


def room_for(signed: Sequence[bytes]) -> int:
    """How many items of this size may wait for their reader."""
    largest = max(map(len, signed), default=1)
    return max(2, min(ROOM, ROOM_BYTES // max(1, largest)))


@dataclass(frozen=True, slots=True)
class Items:
    """Operations on a generator's items."""

    keys: Keys

    def emit_command(self, emission: Emission) -> Command:
        """What appends the items; the reply is how many are recorded in all, and a verdict."""
        keys, call, pool = self.keys, emission.call, emission.pool
        stream = keys.again(pool) if emission.lane == 2 else keys.inputs(pool)
        return script("emit").command(
            (keys.call(call), keys.outputs(call), stream, keys.more(call)),
            (
                GROUP,
                emission.container,
                emission.entry,
                emission.index,
                emission.first,
                room_for(emission.signed),
            ),
            more=emission.signed,
        )

    def emit(self, emission: Emission) -> Op[tuple[int, Verdict]]:
        """Append the items: how many are recorded in all, and what to do next."""
        made, verdict = yield from ask_one(*self.emit_command(emission))
        return made, verdict.decode()

    def wait_for_room(self, call: str) -> Op[None]:
        """Wait until the reader has made room, at most 5 s."""
        yield Exchange(((b"BLPOP", self.keys.more(call), WAIT_SECONDS),), waits=True)

    def store(self, call: str, index: int, number: int, payload: bytes) -> Op[None]:
        """Store an item's payload apart; it lasts an hour. Raises EnqueueError."""
        key = self.keys.item_blob(call, index, number)
        yield from ask((b"SET", key, payload, b"PX", ITEM_BLOB_MS))

    def fetch(self, call: str, index: int, number: int) -> Op[bytes | None]:
        """A payload that was stored apart; it is deleted with a later write."""
        key = self.keys.item_blob(call, index, number)
        reply: bytes | None = yield from ask_one(b"GET", key)
        yield Later((b"UNLINK", key))
        return reply

    def take_command(self, call: str, entries: Sequence[bytes]) -> Command:
        """What removes items that were read."""
        keys = self.keys
        return script("take").command(
            (keys.call(call), keys.outputs(call), keys.more(call)), more=entries
        )

    def take(
        self, call: str, entries: Sequence[bytes], cursor: bytes, *, block: int
    ) -> Op[list[Output]]:
        """Remove what was read and read on, waiting up to `block` ms, in one round trip."""
        read: Command = (
            *(b"XREAD", b"COUNT", READ_COUNT, b"BLOCK", block),
            *(b"STREAMS", self.keys.outputs(call), cursor),
        )
        removal = (self.take_command(call, entries),) if entries else ()
        replies = yield Exchange((*removal, read), waits=True)
        return parse_outputs(replies[-1])

    def close(self, call: str) -> Op[None]:
        """Nobody reads any more: forget the call, and let its producer go on into the void."""
        keys = self.keys
        yield from ask(
            (b"UNLINK", keys.call(call), keys.outputs(call), keys.moved(call)),
            (b"LPUSH", keys.more(call), 1),
            (b"PEXPIRE", keys.more(call), 10_000),
            patience=2.0,
        )
