"""Entries of a call's outputs as values; nothing in them is believed before its signature is checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# The index of the note that a call was cancelled, and of an entry that none of our scripts has written.
CANCELLED_INDEX, FOREIGN_INDEX = -1, -2
# No output is for more of them.
MOST_INPUTS = 999


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
    if first < CANCELLED_INDEX or not 1 <= count <= MOST_INPUTS:
        return foreign
    if kind == b"x":
        return Output(entry, first, None, told.decode(errors="replace"), False, count)
    return Output(entry, first, told, None, kind == b"y", count)
