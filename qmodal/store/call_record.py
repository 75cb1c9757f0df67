"""A call's record, read from its hash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qmodal.store import reading
from qmodal.store.keys import is_pool_id
from qmodal.transport.operation import Op, ask_one


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What the server knows of a call."""

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
    reply = yield from ask_one(b"HMGET", key, *names, b"digest")
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
