"""Which calls an input made: noted with their submit, and again when they were delivered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qmodal.store import reading
from qmodal.store.calls import MOST_CHILDREN
from qmodal.store.keys import Keys
from qmodal.transport.operation import Command, Op, ask_one
from qmodal.wire.ids import input_of, is_call_id

# How long the children of a delivered call are remembered for the call graph of who made it.
DELIVERED_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Child:
    """A call that the input of this index made; with `told`, it was delivered and is gone."""

    index: int
    call: str
    pool: str = ""
    told: str = ""


@dataclass(frozen=True, slots=True)
class Children:
    """The calls below calls."""

    keys: Keys

    def forget_commands(
        self, parent: str, call: str, indexes: Iterable[int], *, pool: str, told: str
    ) -> tuple[Command, ...]:
        """What deletes a delivered call that the input `parent` made, but for what a graph shows."""
        keys = self.keys
        name, index = input_of(parent)
        blobs = [keys.result_blob(call, each) for each in indexes]
        bounds = (b"NOMKSTREAM", b"MAXLEN", b"~", MOST_CHILDREN)
        return (
            (b"UNLINK", keys.call(call), keys.outputs(call), keys.moved(call), *blobs),
            (b"PEXPIRE", keys.children(call), DELIVERED_MS),
            (b"XADD", keys.children(name), *bounds, b"*", index, call, pool, told),
        )

    def of(self, call: str) -> Op[list[Child]]:
        """The calls that a call's inputs made, each once."""
        entries = yield from ask_one(b"XRANGE", self.keys.children(call), b"-", b"+")
        # A submit that was repeated noted it twice; the note of its end comes last.
        found = [_child(fields) for _, fields in entries]
        return list({child.call: child for child in found if child is not None}.values())


def _child(fields: Sequence[bytes]) -> Child | None:
    """What an entry notes; None for what is no note of ours."""
    index = reading.whole(fields[0])
    name, *ended = (part.decode(errors="replace") for part in fields[1:])
    if index is None or index < 0 or not is_call_id(name) or len(ended) not in (0, 2):
        return None
    return Child(index, name, *ended)
