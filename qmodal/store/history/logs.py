"""Logs: what containers print, per app, capped and kept for a week."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from qmodal.store.keys import Keys
from qmodal.transport.operation import Exchange, Op, ask, ask_one

KEEP_SECONDS = 7 * 24 * 3600
KEEP_ENTRIES = 20_000
# Seconds since 1970: a day before the end of the calendar, for any time zone.
LATEST = 253_402_214_400.0
Source = Literal["stdout", "stderr", "system"]
SOURCES: dict[bytes, Source] = {b"o": "stdout", b"e": "stderr", b"s": "system"}
LETTERS: dict[Source, bytes] = {source: letter for letter, source in SOURCES.items()}


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Text that a container printed; `entry` is its place in the stream (ms since 1970 - n).

    `pool` is empty for what was printed before there was a pool: while modules were imported.
    An entry that is none of ours is a chunk without text, so that whoever reads on gets past it.
    """

    container: str
    source: Source
    text: bytes
    entry: str = ""
    pool: str = ""

    @property
    def moment(self) -> datetime:
        """When it was written down, as far as the calendar goes."""
        return moment_of(int(self.entry.partition("-")[0]))


@dataclass(frozen=True, slots=True)
class Logs:
    """Operations on logs."""

    keys: Keys

    def append(self, app_id: str, chunks: Sequence[LogChunk]) -> Op[None]:
        """Add chunks at the end; the oldest go when there are too many."""
        key = self.keys.logs(app_id)
        entries = (
            (b"c", chunk.container, b"s", LETTERS[chunk.source], b"t", chunk.text, b"p", chunk.pool)
            for chunk in chunks
        )
        yield from ask(
            *((b"XADD", key, b"MAXLEN", b"~", KEEP_ENTRIES, b"*", *entry) for entry in entries),
            (b"EXPIRE", key, KEEP_SECONDS),
        )

    def tail(self, app_id: str, count: int = 100) -> Op[list[LogChunk]]:
        """The newest chunks, oldest first."""
        return (yield from self.before(app_id, "+", count=count))

    def between(self, app_id: str, start: str, end: str, *, count: int) -> Op[list[LogChunk]]:
        """The oldest chunks from one place to another; `(` before a place leaves it out."""
        key = self.keys.logs(app_id)
        reply = yield from ask_one(b"XRANGE", key, start, end, b"COUNT", count)
        return [_chunk(entry, fields) for entry, fields in reply]

    def before(self, app_id: str, end: str, *, count: int) -> Op[list[LogChunk]]:
        """The newest chunks up to a place, oldest first."""
        key = self.keys.logs(app_id)
        reply = yield from ask_one(b"XREVRANGE", key, end, b"-", b"COUNT", count)
        return [_chunk(entry, fields) for entry, fields in reversed(reply)]

    def follow(
        self, app_id: str, cursor: str, *, block: int, patience: float = 20.0
    ) -> Op[list[LogChunk]]:
        """Chunks behind the cursor, waiting up to `block` ms for some.

        `patience`: seconds during which a lost connection is retried.
        """
        command = (b"XREAD", b"COUNT", 500, b"BLOCK", block, b"STREAMS", self.keys.logs(app_id))
        replies = yield Exchange(((*command, cursor),), waits=True, patience=patience)
        if not replies[0]:
            return []
        return [_chunk(entry, fields) for entry, fields in replies[0][0][1]]


def moment_of(millis: int) -> datetime:
    """That many ms after 1970, as far as the calendar goes: an entry may have any number."""
    return datetime.fromtimestamp(min(millis / 1000, LATEST), UTC)


def _chunk(entry: bytes, fields: Sequence[bytes]) -> LogChunk:
    about = dict(zip(fields[::2], fields[1::2], strict=True))
    container, pool = (about.get(name, b"").decode(errors="replace") for name in (b"c", b"p"))
    # A source that this release does not know, of a newer one, is shown all the same.
    source = SOURCES.get(about.get(b"s", b""), "system")
    text = about.get(b"t", b"") if about.keys() >= {b"c", b"s"} else b""
    return LogChunk(container, source, text, entry.decode(), pool)
