"""Finds log lines: those of an app, a pool, a call or a container, from a stream or with a text in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from qmodal.client.client import Client
from qmodal.exception import InvalidError
from qmodal.store.history.logs import KEEP_ENTRIES, LETTERS, LogChunk
from qmodal.transport.operation import Op

# Entries that are read at once.
PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """Selects what was printed by pool, function (`f`, `Cls` or `Cls.method`), call, input and container, by
    the stream it was printed to, and lines by a text in them. What is empty selects everything.

    Lines that nobody can tell the input of are not those of an input.
    """

    pool: str = ""
    function: str = ""
    call: str = ""
    index: int | None = None
    container: str = ""
    source: str | None = None
    text: str = ""

    def __post_init__(self) -> None:
        if self.source is not None and self.source not in LETTERS:
            names = ", ".join(map(repr, LETTERS))
            raise InvalidError(f"`source` is {self.source!r}; it may be one of {names}")

    def has(self, chunk: LogChunk) -> bool:
        """Whether lines of this chunk may be meant."""
        return (
            self.pool in ("", chunk.pool)
            and self.call in ("", chunk.call)
            and self.index in (None, chunk.index)
            and self.container in ("", chunk.container)
            and self.source in (None, chunk.source)
            and (not self.function or _is_of(self.function, chunk.function))
        )

    def chunks(self, chunks: Iterable[LogChunk]) -> Iterator[LogChunk]:
        """What is meant of each chunk."""
        for chunk in chunks:
            if not self.has(chunk) or not chunk.text:
                continue
            if not self.text:
                yield chunk
            elif found := [line for line in lines_of(chunk) if self.text in _text(line)]:
                yield replace(chunk, text=b"".join(found))

    def lines(self, chunks: Iterable[LogChunk]) -> Iterator[tuple[LogChunk, str]]:
        """Each line, without its end, with the chunk that it is in."""
        for chunk in self.chunks(chunks):
            for line in lines_of(chunk):
                yield chunk, _text(line).rstrip("\r\n")


def _is_of(wanted: str, tag: str) -> bool:
    """Whether a function of that tag (`f` or `Cls.*`) is meant; lines of a class do not say the method."""
    return wanted in (tag, tag.removesuffix(".*")) or (
        tag.endswith(".*") and wanted.startswith(tag[:-1])
    )


def lines_of(chunk: LogChunk) -> list[bytes]:
    """Its lines, with their ends."""
    return chunk.text.splitlines(keepends=True)


def _text(line: bytes) -> str:
    return line.decode(errors="replace")


def newest(
    client: Client,
    app_id: str,
    wanted: LogFilter,
    count: int,
    *,
    since: str = "-",
    until: str = "+",
) -> Op[list[LogChunk]]:
    """The newest `count` lines that are wanted, the oldest first, between two places.

    Where the log of the app begins with what was dropped before, the first line says so.
    """
    found: list[LogChunk] = []
    lines, end = 0, until
    while lines < count:
        page = yield from client.logs.before(app_id, end, count=PAGE, start=since)
        if not page:
            if since == "-":
                first = found[0].entry if found else "0-0"
                found = [*wanted.chunks((yield from _dropped(client, app_id, first))), *found]
            return found
        fresh = list(wanted.chunks(page))
        lines += sum(len(lines_of(chunk)) for chunk in fresh)
        found = [*fresh, *found]
        end = f"({page[0].entry}"
    return _without(found, lines - count)


def _dropped(client: Client, app_id: str, place: str) -> Op[list[LogChunk]]:
    """A line that says how many entries were dropped, if any were, for that place."""
    dropped = yield from client.logs.dropped(app_id)
    text = (
        f"[{dropped} older pieces of output were dropped: an app keeps the newest {KEEP_ENTRIES}]\n"
    )
    return [LogChunk("", "system", text.encode(), place)] if dropped else []


def _without(chunks: list[LogChunk], lines: int) -> list[LogChunk]:
    """The chunks without so many of their first lines."""
    for number, chunk in enumerate(chunks):
        own = lines_of(chunk)
        if lines < len(own):
            return [replace(chunk, text=b"".join(own[lines:])), *chunks[number + 1 :]]
        lines -= len(own)
    return []
