"""Figures of a server and of its oldest inputs, as metrics show them: read in a few round trips, whatever there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qmodal.store import reading
from qmodal.store.keys import GROUP, Keys
from qmodal.store.server import server_fields
from qmodal.transport.operation import Op, ask_each
from qmodal.wire.ids import SHARDS


@dataclass(frozen=True, slots=True)
class ServerFigures:
    """The server at one moment; `server`: the fields of INFO, `now` in ms of its clock."""

    leader: str
    now: float
    server: dict[str, str]
    dead: int  # entries that were set aside


@dataclass(frozen=True, slots=True)
class Figures:
    """Operations that read figures."""

    keys: Keys

    def server(self) -> Op[ServerFigures]:
        """Who leads, the clock, the memory and the persistence of the server, and how much is set aside."""
        dead = [(b"XLEN", self.keys.dead(shard)) for shard in range(SHARDS)]
        sections = [(b"INFO", b"memory"), (b"INFO", b"persistence"), (b"INFO", b"clients")]
        leader, clock, *rest = yield from ask_each(
            [(b"GET", self.keys.leader), (b"TIME",), *sections, *dead]
        )
        found, lengths = rest[: len(sections)], rest[len(sections) :]
        fields: dict[str, str] = {}
        for section in found:
            fields |= server_fields(section) if isinstance(section, bytes) else {}
        return ServerFigures(
            leader=reading.text(leader, self.keys.leader) or "",
            now=int(clock[0]) * 1000 + int(clock[1]) / 1000,
            server=fields,
            dead=sum(each for each in lengths if isinstance(each, int)),
        )

    def oldest_waiting(self, pools: Sequence[str]) -> Op[dict[str, int]]:
        """When the oldest input of each that nobody has claimed was put in line, in ms of the server's clock."""
        lanes = [(pool, key(pool)) for pool in pools for key in (self.keys.inputs, self.keys.again)]
        groups = yield from ask_each((b"XINFO", b"GROUPS", lane) for _, lane in lanes)
        starts = [
            (pool, (b"XRANGE", lane, b"(" + last, b"+", b"COUNT", 1))
            for (pool, lane), reply in zip(lanes, groups, strict=True)
            if (last := _last_delivered(reply)) is not None
        ]
        replies = yield from ask_each(command for _, command in starts)
        oldest: dict[str, int] = {}
        for (pool, _), reply in zip(starts, replies, strict=True):
            if isinstance(reply, list) and reply:
                since = int(reply[0][0].partition(b"-")[0])
                oldest[pool] = min(since, oldest.get(pool, since))
        return oldest


def _last_delivered(reply: Any) -> bytes | None:
    """The id of the entry that was delivered last; None if the stream cannot be read."""
    if not isinstance(reply, list):
        return None
    groups = [dict(zip(group[::2], group[1::2], strict=True)) for group in reply]
    found = (each.get(b"last-delivered-id") for each in groups if each.get(b"name") == GROUP)
    return next(found, None)
