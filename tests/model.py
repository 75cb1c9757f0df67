"""What the random walk knows of its calls and pools, and never forgets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgpack

from qmodal.store.entries import Claimed
from qmodal.store.exchange import Command, Exchange, Op

LOST = "lost"
Input = tuple[str, int]  # call, index


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
    """What the model knows of a pool."""

    held: dict[str, dict[Input, Claimed]] = field(default_factory=dict)  # by container
    queued: set[Input] = field(default_factory=set)
    delayed: set[Input] = field(default_factory=set)
    is_active: bool = False

    def inflight(self) -> int:
        """Inputs that are somewhere in the pool; delayed ones of a cancelled call still are."""
        return len(self.queued) + len(self.delayed) + sum(map(len, self.held.values()))


def delayed_input(member: bytes) -> Input:
    """The input that a member of a pool's delayed set is."""
    fields = msgpack.unpackb(member, raw=True)
    return fields[3].decode(), int(fields[5])
