"""Logs: what containers printed, as entries that a program can read (`app.logs`, `f.logs`)."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from qmodal.client.client import Client, current
from qmodal.client.verb import Stream, stream_verb
from qmodal.exception import InvalidError
from qmodal.store.history.logs import LETTERS, LogChunk
from qmodal.transport.operation import Op
from qmodal.types import LogEntry

PAGE = 500
BLOCK_MS = 1000
# Of an app that has ended: what is still on its way arrives within this.
DRAIN_MS = 400


@dataclass(frozen=True, slots=True)
class LogSource:
    """The app, or the one pool of it, whose output is read."""

    app_id: str
    pool: str = ""


FindLogSource = Callable[[], Op[LogSource]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """Selects lines by the stream they were printed to and by a text in them."""

    source: str | None = None
    text: str = ""

    def __post_init__(self) -> None:
        if self.source is not None and self.source not in LETTERS:
            names = ", ".join(map(repr, LETTERS))
            raise InvalidError(f"`source` is {self.source!r}; it may be one of {names}")

    def entries(self, of: LogSource, chunks: Iterable[LogChunk]) -> Iterator[LogEntry]:
        """One entry for each line, without its end."""
        for chunk in chunks:
            if of.pool in ("", chunk.pool) and self.source in (None, chunk.source):
                for line in chunk.text.decode(errors="replace").splitlines():
                    if self.text in line:
                        yield _entry(of, chunk, line)


def _entry(source: LogSource, chunk: LogChunk, line: str) -> LogEntry:
    return LogEntry(
        message=line,
        timestamp=chunk.moment,
        source=chunk.source,
        object_id=f"fu-{chunk.pool}" if chunk.pool else source.app_id,
        context_ids=[chunk.container],
    )


class _Entries(Stream[LogEntry]):
    """Entries of one source, page by page."""

    def __init__(self, find: FindLogSource) -> None:
        self._find = find
        self._source: LogSource | None = None

    def next(self) -> Op[list[LogEntry] | None]:
        """The next page; None behind the last."""
        if self._source is None:
            self._source = yield from self._find()
        return (yield from self.page(current(), self._source))

    @abstractmethod
    def page(self, client: Client, source: LogSource) -> Op[list[LogEntry] | None]:
        """The next page; None behind the last."""


class _Fetch(_Entries):
    """Entries between two moments, the oldest first."""

    def __init__(
        self, find: FindLogSource, since: datetime, until: datetime | None, wanted: LogFilter
    ) -> None:
        super().__init__(find)
        self._start = str(_millis(since))
        self._end = "+" if until is None else str(_millis(until))
        self._wanted = wanted

    def page(self, client: Client, source: LogSource) -> Op[list[LogEntry] | None]:
        chunks = yield from client.logs.between(source.app_id, self._start, self._end, count=PAGE)
        if not chunks:
            return None
        self._start = f"({chunks[-1].entry}"
        return list(self._wanted.entries(source, chunks))


class _Tail(_Entries):
    """The newest entries, in one page."""

    def __init__(self, find: FindLogSource, count: int, wanted: LogFilter) -> None:
        super().__init__(find)
        if count < 1:
            raise InvalidError(f"`entries` is {count}; it must be at least 1")
        self._count = count
        self._wanted = wanted
        self._is_done = False

    def page(self, client: Client, source: LogSource) -> Op[list[LogEntry] | None]:
        if self._is_done:
            return None
        self._is_done = True
        found: list[LogEntry] = []
        end = "+"
        while len(found) < self._count:
            chunks = yield from client.logs.before(source.app_id, end, count=PAGE)
            if not chunks:
                break
            found = [*self._wanted.entries(source, chunks), *found]
            end = f"({chunks[0].entry}"
        return found[-self._count :]


class _Live(_Entries):
    """Entries as they are printed from now on, for `timeout` seconds at most."""

    def __init__(self, find: FindLogSource, timeout: float | None) -> None:
        super().__init__(find)
        self._ends = None if timeout is None else time.monotonic() + timeout
        self._cursor = ""
        self._is_over = False

    def page(self, client: Client, source: LogSource) -> Op[list[LogEntry] | None]:
        if not self._cursor:
            last = yield from client.logs.tail(source.app_id, 1)
            self._cursor = last[0].entry if last else "0-0"
        block = self._block()
        if not block:
            return None
        if not self._is_over:
            record = yield from client.apps.record(source.app_id)
            self._is_over = record is None or record.state == "stopped"
        block = min(block, DRAIN_MS) if self._is_over else block
        chunks = yield from client.logs.follow(source.app_id, self._cursor, block=block)
        if not chunks:
            return None if self._is_over else []
        self._cursor = chunks[-1].entry
        return list(LogFilter().entries(source, chunks))

    def _block(self) -> int:
        if self._ends is None:
            return BLOCK_MS
        return max(0, min(BLOCK_MS, int((self._ends - time.monotonic()) * 1000)))


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class LogVerbs:
    """What the containers of an app, or of one pool, printed within the last seven days."""

    _find: FindLogSource

    @stream_verb
    def fetch(
        self,
        *,
        since: datetime,
        until: datetime | None = None,
        source: str | None = None,
        search_text: str = "",
    ) -> Stream[LogEntry]:
        """Lines between two moments, the oldest first; raises InvalidError for an unknown source."""
        return _Fetch(self._find, since, until, LogFilter(source=source, text=search_text))

    @stream_verb
    def tail(self, entries: int = 100, *, source: str | None = None) -> Stream[LogEntry]:
        """The newest lines, the oldest of them first; raises InvalidError for an unknown source."""
        return _Tail(self._find, entries, LogFilter(source=source))

    @stream_verb
    def stream(self, timeout: float | None = None) -> Stream[LogEntry]:
        """Lines as they are printed from now on, until the app ends or `timeout` seconds passed."""
        return _Live(self._find, timeout)
