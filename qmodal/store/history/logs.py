"""Logs: what containers print, per app, capped and kept for a week."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from qmodal.store.keys import Keys
from qmodal.transport.operation import Exchange, Op, ask, ask_each, ask_one
from qmodal.wire.ids import is_call_id

KEEP_SECONDS = 7 * 24 * 3600
KEEP_ENTRIES = 20_000
# One entry holds so many bytes at most, of so many chunks.
CHUNK_BYTES, MOST_CHUNKS = 16 * 1024, 1000
# Seconds since 1970: a day before the end of the calendar, for any time zone.
LATEST = 253_402_214_400.0
Source = Literal["stdout", "stderr", "system"]
SOURCES: dict[bytes, Source] = {b"o": "stdout", b"e": "stderr", b"s": "system"}
LETTERS: dict[Source, bytes] = {source: letter for letter, source in SOURCES.items()}
_OWNER = re.compile(r"(?a:(\d{1,6}):(\d{0,9}):([\w-]{0,48}))")


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Text that a container printed; `entry` is its place in the stream (ms since 1970 - n).

    `pool` and `function` are empty for what was printed before there was a pool: while modules were
    imported. `call` and `index` say which input has printed it: empty and -1 if none did, or nobody can
    tell, and -1 for one of several short inputs of a map that ran as one. Chunks of one entry have the
    same place. An entry that is none of ours is a chunk without text, so that whoever reads on gets past
    it.
    """

    container: str
    source: Source
    text: bytes
    entry: str = ""
    pool: str = ""
    function: str = ""
    call: str = ""
    index: int = -1

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
        add = (b"XADD", key, b"MAXLEN", b"~", KEEP_ENTRIES, b"*")
        yield from ask(
            *((*add, *_fields(of_entry)) for of_entry in _entries(chunks)),
            (b"EXPIRE", key, KEEP_SECONDS),
        )

    def dropped(self, app_id: str) -> Op[int]:
        """How many entries were dropped because there were too many; 0 if the server does not count them."""
        (about,) = yield from ask_each([(b"XINFO", b"STREAM", self.keys.logs(app_id))])
        if not isinstance(about, list):  # there is no such stream
            return 0
        figures = dict(zip(about[::2], about[1::2], strict=False))
        match figures.get(b"entries-added"), figures.get(b"length"):
            case int(added), int(length):
                return max(0, added - length)
            case _:
                return 0

    def tail(self, app_id: str, count: int = 100) -> Op[list[LogChunk]]:
        """The chunks of the newest entries, oldest first."""
        return (yield from self.before(app_id, "+", count=count))

    def between(self, app_id: str, start: str, end: str, *, count: int) -> Op[list[LogChunk]]:
        """The chunks of the oldest `count` entries between two places; `(` before one leaves it out."""
        key = self.keys.logs(app_id)
        reply = yield from ask_one(b"XRANGE", key, start, end, b"COUNT", count)
        return [chunk for entry, fields in reply for chunk in _chunks(entry, fields)]

    def before(self, app_id: str, end: str, *, count: int, start: str = "-") -> Op[list[LogChunk]]:
        """The newest chunks of `count` entries up to a place and not before `start`, oldest first."""
        key = self.keys.logs(app_id)
        reply = yield from ask_one(b"XREVRANGE", key, end, start, b"COUNT", count)
        return [chunk for entry, fields in reversed(reply) for chunk in _chunks(entry, fields)]

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
        read = replies[0][0][1]
        return [chunk for entry, fields in read for chunk in _chunks(entry, fields)]


def moment_of(millis: int) -> datetime:
    """That many ms after 1970, as far as the calendar goes: an entry may have any number."""
    return datetime.fromtimestamp(min(millis / 1000, LATEST), UTC)


def _entries(chunks: Sequence[LogChunk]) -> Iterator[list[LogChunk]]:
    """The chunks that share an entry: neighbours that say the same but for their input."""
    gathered: list[LogChunk] = []
    size = 0
    for chunk in chunks:
        is_more = gathered and (
            len(gathered) < MOST_CHUNKS
            and size + len(chunk.text) <= CHUNK_BYTES
            and _about(chunk) == _about(gathered[0])
        )
        if gathered and not is_more:
            yield gathered
            gathered, size = [], 0
        gathered.append(chunk)
        size += len(chunk.text)
    if gathered:
        yield gathered


def _about(chunk: LogChunk) -> tuple[str, ...]:
    return chunk.container, chunk.source, chunk.pool, chunk.function


def _fields(chunks: Sequence[LogChunk]) -> tuple[object, ...]:
    first, text = chunks[0], b"".join(chunk.text for chunk in chunks)
    fields = (b"c", first.container, b"s", LETTERS[first.source], b"t", text, b"p", first.pool)
    owners = _packed_owners(chunks)
    return (*fields, b"f", first.function, *((b"i", owners) if owners else ()))


def _packed_owners(chunks: Sequence[LogChunk]) -> str:
    """For each chunk its size, the index, and the call unless it is that of the chunk before.

    Empty if none of them has an input. As `17:3:fc-...,20:4:,5::-`: an index that is not known is empty,
    and `-` is no call.
    """
    if not any(chunk.call for chunk in chunks):
        return ""
    packed, before = [], ""
    for chunk in chunks:
        call = chunk.call if is_call_id(chunk.call) else "-"
        index = chunk.index if chunk.index >= 0 else ""
        packed.append(f"{len(chunk.text)}:{index}:{'' if call == before else call}")
        before = call
    return ",".join(packed)


def _chunks(entry: bytes, fields: Sequence[bytes]) -> Iterator[LogChunk]:
    """What is in an entry: a chunk for each input that has printed some of it."""
    about = dict(zip(fields[::2], fields[1::2], strict=True))
    container, pool, function, owners = (
        about.get(name, b"").decode(errors="replace") for name in (b"c", b"p", b"f", b"i")
    )
    # A source that this release does not know, of a newer one, is shown all the same.
    source = SOURCES.get(about.get(b"s", b""), "system")
    text = about.get(b"t", b"") if about.keys() >= {b"c", b"s"} else b""
    whole = LogChunk(container, source, text, entry.decode(), pool, function)
    start = 0
    for size, call, index in _unpacked_owners(owners):
        yield replace(whole, text=text[start : start + size], call=call, index=index)
        start += size
    if start == 0 or start < len(text):
        yield replace(whole, text=text[start:])


def _unpacked_owners(packed: str) -> Iterator[tuple[int, str, int]]:
    """Size, call and index of each chunk, up to one that cannot be read."""
    before = ""
    for each in packed.split(","):
        found = _OWNER.fullmatch(each)
        if found is None:
            return
        size, index, call = found.groups()
        before = call or before
        yield int(size), before if is_call_id(before) else "", int(index) if index else -1
