"""Chores of the control plane: how each went last, for people and metrics."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import msgpack

from qmodal.store import reading
from qmodal.store.keys import Keys
from qmodal.transport.operation import Op, ask_one

KEEP_CHORES_MS = 30 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoreRecord:
    """How a chore went: `slot` is the interval that it was done for, `at` when it ended, `good` when it last went well.

    All in ms since 1970. `did` says what it has done, `error` why it failed; `process` is who has done it.
    """

    name: str
    slot: int
    at: int
    good: int
    seconds: float
    did: str
    error: str
    process: str


@dataclass(frozen=True, slots=True)
class Chores:
    """Operations on records of chores."""

    keys: Keys

    def note(self, record: ChoreRecord) -> Op[None]:
        """Keep how it went."""
        packed: bytes = msgpack.packb(asdict(record))
        key = self.keys.chores
        yield from reading.ask_mending(key, b"HSET", key, record.name, packed)
        yield from ask_one(b"PEXPIRE", key, KEEP_CHORES_MS)

    def all(self) -> Op[dict[str, ChoreRecord]]:
        """How each chore went last."""
        key = self.keys.chores
        found = {}
        for _, packed in reading.pairs((yield from reading.ask_mending(key, b"HGETALL", key))):
            record = reading.report(packed, ChoreRecord, key)
            if record is not None:
                found[record.name] = record
        return found
