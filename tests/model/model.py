"""What the random walk knows of its calls and pools, and never forgets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgpack

from qmodal.store.entries import Claimed
from qmodal.transport.operation import Command, Exchange, Op

LOST = "lost"
Input = tuple[str, int]  # call, index
Token = tuple[int, str]  # lane, entry


class Part(NamedTuple):
    """Inputs of a call that share an entry: `size` of them from the index `first` on."""

    call: str
    first: int
    size: int = 1

    @property
    def behind(self) -> int:
        """The index behind its last input."""
        return self.first + self.size

    def inputs(self) -> Iterator[Input]:
        """Its inputs one by one."""
        return ((self.call, index) for index in range(self.first, self.behind))

    def cut(self, first: int, behind: int) -> list[Part]:
        """The part of it between these indexes, if there is one."""
        return [Part(self.call, first, behind - first)] if first < behind else []


class Late(NamedTuple):
    """A request that is sent again, or comes too late: a split if it has a `holder`, else a settle."""

    pool: str
    command: Command
    holder: tuple[str, Token] | None = None


def command_of(op: Op[Any]) -> Command:
    """The only command of an operation's first exchange."""
    request = next(op)
    assert isinstance(request, Exchange)
    assert len(request.commands) == 1
    return request.commands[0]


@dataclass(slots=True)
class WalkCall:
    """What the model knows of a call."""

    pool: str
    total: int | None
    submitted: int = 0
    is_cancelled: bool = False
    outcomes: dict[int, bytes] = field(default_factory=dict)
    blobs: set[int] = field(default_factory=set)

    @property
    def is_ended(self) -> bool:
        """Whether nothing of it is in flight."""
        return self.is_cancelled or len(self.outcomes) == self.submitted


@dataclass(slots=True)
class WalkPool:
    """What the model knows of a pool; `kept` are entries that stand for one input of their pack."""

    held: dict[str, dict[Part, Claimed]] = field(default_factory=dict)  # by container
    queued: set[Part] = field(default_factory=set)
    delayed: set[Part] = field(default_factory=set)
    kept: set[Token] = field(default_factory=set)
    is_active: bool = False

    def inflight(self) -> int:
        """Inputs that are somewhere in the pool; delayed ones of a cancelled call still are."""
        waiting = sum([part.size for part in self.queued]) + sum([one.size for one in self.delayed])
        return waiting + sum([part.size for held in self.held.values() for part in held])

    def entries(self) -> int:
        """Entries in its two streams."""
        return len(self.queued) + sum(map(len, self.held.values()))

    def unfinished(self, call: str) -> list[Part]:
        """What of a cancelled call is still delayed, or was left to its containers."""
        held = [part for parts in self.held.values() for part in parts if part.call == call]
        return held + [part for part in self.delayed if part.call == call]


def delayed_part(member: bytes) -> Part:
    """The inputs that a member of a pool's delayed set is."""
    fields = msgpack.unpackb(member, raw=True)
    return Part(fields[3].decode(), int(fields[5]), int(fields[11]))
