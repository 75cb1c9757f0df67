"""Entries of a pool's streams as values: as a caller submits, and a container claims, settles and splits them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from qmodal.store.keys import Lane
from qmodal.transport.sharing.pending_reply import PendingReply

# Envelope, call, index of the first input; once given back also retries, losses, number of inputs.
_NAMES = (b"e", b"c", b"i", b"r", b"d", b"n")
_FRESH = _NAMES[:3]
# How many names and values an entry has that was never given back.
FRESH_FIELDS = 2 * len(_FRESH)


@dataclass(slots=True, kw_only=True)
class Submission:
    """Consecutive inputs of one call; `total` is None while more may follow.

    `sizes`: how many inputs each envelope carries; empty if each carries one.
    """

    call: str
    pool: str
    digest: bytes
    envelopes: Sequence[bytes]
    first: int = 0
    total: int | None = None
    ttl: int  # milliseconds that results are kept after the last one
    parent: str = ""
    now: int  # ms since 1970
    blobs: Sequence[tuple[int, bytes]] = ()
    sizes: Sequence[int] = ()
    # What reads its outcome from the reply stream, to which it then goes, too.
    pending_reply: PendingReply | None = None

    @property
    def reply_to(self) -> str:
        """The name of the reply stream that its caller reads; empty if it reads none."""
        pending = self.pending_reply
        return "" if pending is None else pending.reply_to


class Claimed(NamedTuple):
    """One delivered entry; `lane` 1 is the inputs stream, 2 the one of re-added inputs."""

    lane: Lane
    entry: str
    fields: Sequence[bytes]

    @property
    def is_shaped(self) -> bool:
        """Whether it was written by our scripts, as far as can be seen."""
        fields = self.fields
        if len(fields) == FRESH_FIELDS:
            e, _, c, _, i, index = fields
            return (e, c, i) == _FRESH and len(index) < 20 and index.isdigit()
        if tuple(fields[::2]) != _NAMES:
            return False
        # Python refuses to read numbers of thousands of digits, and would end the container.
        return all(len(each) < 20 and each.isdigit() for each in fields[5::2])

    @property
    def envelope(self) -> bytes:
        """The signed envelope."""
        return self.fields[1]

    @property
    def call(self) -> str:
        """The call it claims to belong to; the envelope says it with a signature."""
        return self.fields[3].decode(errors="replace")

    @property
    def first(self) -> int:
        """The index in its call of its first input."""
        return int(self.fields[5])

    @property
    def size(self) -> int:
        """How many inputs it stands for, unless it was split."""
        return int(self.fields[11]) if len(self.fields) > 6 else 1

    @property
    def retries(self) -> int:
        """Retries used so far."""
        return int(self.fields[7]) if len(self.fields) > 6 else 0

    @property
    def lost(self) -> int:
        """Deliveries lost to dead containers so far."""
        return int(self.fields[9]) if len(self.fields) > 6 else 0


def charge(claimed: Claimed) -> str:
    """How **reclaim** is told that the (first) input of the entry was started."""
    return f"{claimed.lane} {claimed.entry} {claimed.first}"


@dataclass(slots=True)
class Settled:
    """One attempt to settle, of `count` inputs from `index` on.

    These are a pack, or `entry` names one entry for each, with blanks between them.
    `is_kept`: the entry stands for this input of its pack only, since the rest was split off.
    `keeps_arguments`: it has failed for good and may be repeated, so its arguments stay if they are stored apart.
    """

    lane: int
    entry: str
    call: str
    index: int
    outcome: bytes
    has_blob: bool
    count: int = 1
    is_kept: bool = False
    keeps_arguments: bool = False


class TakenBack(NamedTuple):
    """An input that a dead container had started: it runs again, unless it `is_lost`; `attempt` is that of its end."""

    call: str
    place: int  # in its call
    attempt: int
    is_lost: bool

    @classmethod
    def parse(cls, reply: Sequence[Any]) -> TakenBack:
        """The input of **reclaim**'s reply."""
        call, index, retries, lost, is_lost = reply
        # The death that it is charged with was the end of the attempt before; a lost one may be charged with none.
        return cls(
            call.decode(errors="replace"),
            int(index),
            int(retries) + max(1, int(lost)),
            bool(is_lost),
        )


class Ended(NamedTuple):
    """The outcome of `number` inputs of a pack."""

    first: int
    number: int
    outcome: bytes


class Requeued(NamedTuple):
    """Inputs of a pack that go back in line, after `delay` seconds; `retries`: 1 for a retry."""

    first: int
    number: int
    retries: int = 0
    delay: float = 0.0
