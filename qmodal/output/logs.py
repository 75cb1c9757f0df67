"""Logs: what containers printed, as entries that a program can read (`app.logs`, `f.logs`)."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from qmodal.client.client import Client, current
from qmodal.client.verb import Stream, stream_verb
from qmodal.exception import InvalidError
from qmodal.output.log_search import PAGE, LogFilter, newest
from qmodal.store.history.logs import LogChunk
from qmodal.transport.operation import Op
from qmodal.types import LogEntry
from qmodal.wire.ids import input_id

BLOCK_MS = 1000
# Of an app that has ended: what is still on its way arrives within this.
DRAIN_MS = 400


@dataclass(frozen=True, slots=True)
class LogSource:
    """The app, or the one pool of it, whose output is read."""

    app_id: str
    pool: str = ""


FindLogSource = Callable[[], Op[LogSource]]


def entries(app_id: str, wanted: LogFilter, chunks: Iterable[LogChunk]) -> list[LogEntry]:
    """One entry for each line that is wanted, without its end."""
    return [_entry(app_id, chunk, line) for chunk, line in wanted.lines(chunks)]


def _entry(app_id: str, chunk: LogChunk, line: str) -> LogEntry:
    known = [chunk.container, chunk.call]
    if chunk.call and chunk.index >= 0:
        known.append(input_id(chunk.call, chunk.index))
    return LogEntry(
        message=line,
        timestamp=chunk.moment,
        source=chunk.source,
        object_id=f"fu-{chunk.pool}" if chunk.pool else app_id,
        context_ids=[each for each in known if each],
    )


class _Entries(Stream[LogEntry]):
    """Entries of one source, page by page."""

    def __init__(self, find: FindLogSource, source: str | None = None, text: str = "") -> None:
        self._find = find
        self._app = ""
        # Checked before the first page is asked for.
        self._wanted = LogFilter(source=source, text=text)

    def next(self) -> Op[list[LogEntry] | None]:
        """The next page; None behind the last."""
        if not self._app:
            found = yield from self._find()
            self._app = found.app_id
            self._wanted = LogFilter(
                pool=found.pool, source=self._wanted.source, text=self._wanted.text
            )
        return (yield from self.page(current(), self._app))

    @abstractmethod
    def page(self, client: Client, app: str) -> Op[list[LogEntry] | None]:
        """The next page; None behind the last."""


class _Fetch(_Entries):
    """Entries between two moments, the oldest first."""

    def __init__(
        self,
        find: FindLogSource,
        since: datetime,
        until: datetime | None,
        source: str | None,
        text: str,
    ) -> None:
        super().__init__(find, source, text)
        self._start = str(_millis(since))
        self._end = "+" if until is None else str(_millis(until))

    def page(self, client: Client, app: str) -> Op[list[LogEntry] | None]:
        chunks = yield from client.logs.between(app, self._start, self._end, count=PAGE)
        if not chunks:
            return None
        self._start = f"({chunks[-1].entry}"
        return entries(app, self._wanted, chunks)


class _Tail(_Entries):
    """The newest entries, in one page."""

    def __init__(self, find: FindLogSource, count: int, source: str | None) -> None:
        super().__init__(find, source)
        if count < 1:
            raise InvalidError(f"`entries` is {count}; it must be at least 1")
        self._count = count
        self._is_done = False

    def page(self, client: Client, app: str) -> Op[list[LogEntry] | None]:
        if self._is_done:
            return None
        self._is_done = True
        chunks = yield from newest(client, app, self._wanted, self._count)
        return entries(app, LogFilter(), chunks)


class _Live(_Entries):
    """Entries as they are printed from now on, for `timeout` seconds at most."""

    def __init__(self, find: FindLogSource, timeout: float | None) -> None:
        super().__init__(find)
        self._ends = None if timeout is None else time.monotonic() + timeout
        self._cursor = ""
        self._is_over = False

    def page(self, client: Client, app: str) -> Op[list[LogEntry] | None]:
        if not self._cursor:
            last = yield from client.logs.tail(app, 1)
            self._cursor = last[-1].entry if last else "0-0"
        block = self._block()
        if not block:
            return None
        if not self._is_over:
            record = yield from client.apps.record(app)
            self._is_over = record is None or record.state == "stopped"
        block = min(block, DRAIN_MS) if self._is_over else block
        chunks = yield from client.logs.follow(app, self._cursor, block=block)
        if not chunks:
            return None if self._is_over else []
        self._cursor = chunks[-1].entry
        return entries(app, self._wanted, chunks)

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
        return _Fetch(self._find, since, until, source, search_text)

    @stream_verb
    def tail(self, entries: int = 100, *, source: str | None = None) -> Stream[LogEntry]:
        """The newest lines, the oldest of them first; raises InvalidError for an unknown source."""
        return _Tail(self._find, entries, source)

    @stream_verb
    def stream(self, timeout: float | None = None) -> Stream[LogEntry]:
        """Lines as they are printed from now on, until the app ends or `timeout` seconds passed."""
        return _Live(self._find, timeout)
