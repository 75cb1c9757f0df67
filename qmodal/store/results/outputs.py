"""Entries of a call's outputs as values; nothing in them is believed before its signature is checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qmodal.store import reading
from qmodal.transport.operation import Exchange, Op
from qmodal.wire.ids import is_pool_id

# The index of the note that a call was cancelled, and of an entry that none of our scripts has written.
CANCELLED_INDEX, FOREIGN_INDEX = -1, -2
# No output is for more of them.
MOST_PER_OUTPUT = 999


@dataclass(slots=True)
class Output:
    """One entry of a call's outputs: a signed outcome (or item), or a script's `note`.

    It says what became of `count` inputs from `index` on; `fresh` are those of them that were not
    known before, as after a rollback of the server an output can repeat a part of another one.
    A foreign entry (`is_foreign`) is for no inputs: it is there so that readers get past it.
    """

    entry: bytes
    index: int
    signed: bytes | None
    note: str | None
    is_item: bool = False
    count: int = 1
    known: range | None = None

    @property
    def is_foreign(self) -> bool:
        """Whether it was written by none of our scripts."""
        return self.index == FOREIGN_INDEX

    @property
    def fresh(self) -> range:
        """The indexes that it brings."""
        return self.known or range(self.index, self.index + self.count)


def parse_reply(content: Sequence[bytes]) -> list[Output]:
    """What came from the reply stream for a call of one input; nothing if it only says that there are outputs."""
    return [] if content[1] == b"l" else [_output(b"0", [b"i", *content])]


def parse_outputs(reply: Any) -> list[Output]:
    """The entries in the reply of an XREAD of one outputs stream."""
    if not reply:
        return []
    return [_output(entry, fields) for entry, fields in reply[0][1]]


def _output(entry: bytes, fields: list[bytes]) -> Output:
    foreign = Output(entry, FOREIGN_INDEX, None, None, count=0)
    try:
        _, place, kind, told = fields
        index, _, several = place.partition(b"+")
        first, count = int(index), int(several or 1)
    except ValueError:
        return foreign
    if first < CANCELLED_INDEX or not 1 <= count <= MOST_PER_OUTPUT:
        return foreign
    if kind == b"x":
        return Output(entry, first, None, told.decode(errors="replace"), False, count)
    return Output(entry, first, told, None, kind == b"y", count)


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A call's record on the server."""

    pool: str
    state: str
    submitted: int
    settled: int
    total: int | None
    created: int
    parent: str
    digest: bytes

    @property
    def is_finished(self) -> bool:
        """Whether no output will follow."""
        return self.state == "cancelled" or (self.total is not None and self.settled >= self.total)


def read_record(key: str) -> Op[CallRecord | None]:
    """The record at that key; None if there is none. Raises InternalFailure if it cannot be read."""
    names = (b"pool", b"state", b"submitted", b"settled", b"total", b"created", b"parent")
    (reply,) = yield Exchange(((b"HMGET", key, *names, b"digest"),), shared=True)
    return None if reply[1] is None else _record(reply, key)


def _record(reply: Sequence[bytes | None], where: str) -> CallRecord:
    pool, state, _, _, _, _, parent, digest = reply
    submitted, settled, total, created = (
        reading.whole(part) for part in (reply[2], reply[3] or b"0", reply[4] or b"0", reply[5])
    )
    if submitted is None or settled is None or total is None or created is None:
        raise reading.unreadable(where, f"a number is missing in {reply!r:.200}")
    if pool is None or not is_pool_id(pool.decode(errors="replace")):
        raise reading.unreadable(where, f"there is no pool {pool!r:.100}")
    return CallRecord(
        pool=pool.decode(),
        state=(state or b"").decode(errors="replace"),
        submitted=submitted,
        settled=settled,
        total=None if reply[4] is None else total,
        created=created,
        parent=(parent or b"").decode(errors="replace"),
        digest=digest or b"",
    )
