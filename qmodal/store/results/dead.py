"""Dead letters: entries that no container will run, kept until a person removes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from qmodal.store import reading
from qmodal.store.entries import Claimed
from qmodal.store.keys import Keys
from qmodal.transport.operation import Command, Op, ask, ask_each, ask_one
from qmodal.wire.ids import SHARDS, is_call_id, is_pool_id

# Failed: its containers were lost too often, whatever the input is. Unprocessable: nobody could open it.
DeadKind = Literal["failed", "unprocessable"]
# A shard keeps about as many.
MOST_DEAD = 10_000
_PLACE = re.compile(r"dl-(\d\d)-(\d{1,20})-(\d{1,20})")
_HEAD = 4  # of an entry: why, pool


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter; `at` in ms since 1970, `claimed` the entry as it was, whatever is in it."""

    name: str
    at: int
    kind: DeadKind
    reason: str
    pool: str
    claimed: Claimed

    @property
    def is_input(self) -> bool:
        """Whether it was written by our scripts, as far as can be seen."""
        return self.claimed.is_shaped


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Operations on dead letters, whose names begin with `dl-` and the shard."""

    keys: Keys

    def recent(self, *, since: int = 0, count: int = MOST_DEAD) -> Op[list[DeadLetter]]:
        """The newest of all shards, at most `count` of each and none before `since` (ms), newest first."""
        names = [self.keys.dead(shard) for shard in range(SHARDS)]
        replies = yield from ask_each(
            (b"XREVRANGE", name, b"+", max(0, since), b"COUNT", count) for name in names
        )
        found = [
            _letter(shard, entry, fields or ())
            for shard, (name, reply) in enumerate(zip(names, replies, strict=True))
            if reading.is_readable(reply, name)
            for entry, fields in reply
        ]
        return sorted(found, key=lambda letter: letter.at, reverse=True)

    def find(self, name: str) -> Op[DeadLetter | None]:
        """The one of that name; None if there is none."""
        place = _PLACE.fullmatch(name)
        if place is None or int(place[1]) >= SHARDS:
            return None
        shard, entry = int(place[1]), f"{place[2]}-{place[3]}"
        reply = yield from ask_one(b"XRANGE", self.keys.dead(shard), entry, entry)
        return _letter(shard, reply[0][0], reply[0][1] or ()) if reply else None

    def drop(self, letter: DeadLetter) -> Op[bool]:
        """Remove it, and its arguments if they are stored apart; False if it was gone."""
        keys, claimed = self.keys, letter.claimed
        _, shard, entry = letter.name.split("-", 2)
        commands: list[Command] = [(b"XDEL", keys.dead(int(shard)), entry)]
        if letter.is_input and is_call_id(claimed.call):
            commands.append((b"UNLINK", keys.kept_arguments(claimed.call, claimed.first)))
        replies = yield from ask(*commands)
        return bool(replies[0])

    def trim(self, before: int) -> Op[int]:
        """Remove those from before that moment (ms since 1970); how many."""
        names = [self.keys.dead(shard) for shard in range(SHARDS)]
        replies = yield from ask_each((b"XTRIM", name, b"MINID", max(0, before)) for name in names)
        return sum(reply for reply in replies if isinstance(reply, int))


def _letter(shard: int, entry: bytes, fields: Sequence[bytes]) -> DeadLetter:
    about = dict(zip(fields[:_HEAD:2], fields[1:_HEAD:2], strict=False))
    reason, pool = (about.get(name, b"").decode(errors="replace") for name in (b"why", b"pool"))
    claimed = Claimed(1, entry.decode(), tuple(fields[_HEAD:]))
    is_lost = claimed.is_shaped and not reason.startswith("unprocessable")
    return DeadLetter(
        name=f"dl-{shard:02d}-{entry.decode()}",
        at=int(entry.partition(b"-")[0]),
        kind="failed" if is_lost else "unprocessable",
        reason=reason,
        pool=pool if is_pool_id(pool) else "",
        claimed=claimed,
    )
