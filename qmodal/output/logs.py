"""`app.logs` and `f.logs`: what containers printed, as entries that a program can read."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from qmodal.client.client import Client, current_for
from qmodal.exception import InvalidError
from qmodal.store.logs import LETTERS, LogChunk
from qmodal.transport.operation import Op
from qmodal.types import LogEntry

PAGE = 500
BLOCK_MS = 1000
# Of an app that has ended: what is still on its way arrives within this.
DRAIN_MS = 400


@dataclass(frozen=True, slots=True)
class LogSource:
    """Whose output: that of an app, or that of one of its pools."""

    app_id: str
    pool: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """Which lines count."""

    source: str | None = None
    text: str = ""

    def __post_init__(self) -> None:
        if self.source is not None and self.source not in LETTERS:
            names = ", ".join(map(repr, LETTERS))
            raise InvalidError(f"`source` is {self.source!r}; it may be one of {names}")

    def entries(self, place: LogSource, chunks: Iterable[LogChunk]) -> Iterator[LogEntry]:
        """One entry for each line, without its end."""
        for chunk in chunks:
            if place.pool in ("", chunk.pool) and self.source in (None, chunk.source):
                for line in chunk.text.decode(errors="replace").splitlines():
                    if self.text in line:
                        yield _entry(place, chunk, line)


def _entry(place: LogSource, chunk: LogChunk, line: str) -> LogEntry:
    return LogEntry(
        message=line,
        timestamp=chunk.moment,
        source=chunk.source,
        object_id=f"fu-{chunk.pool}" if chunk.pool else place.app_id,
        context_ids=[chunk.container],
    )


class _Pages(Protocol):
    """Entries, page by page; None behind the last."""

    def next(self, client: Client, place: LogSource) -> Op[list[LogEntry] | None]: ...


class _Fetch:
    def __init__(self, since: datetime, until: datetime | None, wanted: LogFilter) -> None:
        self._start = str(_millis(since))
        self._end = "+" if until is None else str(_millis(until))
        self._wanted = wanted

    def next(self, client: Client, place: LogSource) -> Op[list[LogEntry] | None]:
        chunks = yield from client.logs.between(place.app_id, self._start, self._end, count=PAGE)
        if not chunks:
            return None
        self._start = f"({chunks[-1].entry}"
        return list(self._wanted.entries(place, chunks))


class _Tail:
    def __init__(self, count: int, wanted: LogFilter) -> None:
        if count < 1:
            raise InvalidError(f"`entries` is {count}; it must be at least 1")
        self._count = count
        self._wanted = wanted
        self._is_done = False

    def next(self, client: Client, place: LogSource) -> Op[list[LogEntry] | None]:
        if self._is_done:
            return None
        self._is_done = True
        found: list[LogEntry] = []
        end = "+"
        while len(found) < self._count:
            chunks = yield from client.logs.before(place.app_id, end, count=PAGE)
            if not chunks:
                break
            found = [*self._wanted.entries(place, chunks), *found]
            end = f"({chunks[0].entry}"
        return found[-self._count :]


class _Stream:
    def __init__(self, timeout: float | None) -> None:
        self._ends = None if timeout is None else time.monotonic() + timeout
        self._cursor = ""
        self._is_over = False

    def next(self, client: Client, place: LogSource) -> Op[list[LogEntry] | None]:
        if not self._cursor:
            last = yield from client.logs.tail(place.app_id, 1)
            self._cursor = last[0].entry if last else "0-0"
        block = self._block()
        if not block:
            return None
        if not self._is_over:
            record = yield from client.apps.record(place.app_id)
            self._is_over = record is None or record.state == "stopped"
        block = min(block, DRAIN_MS) if self._is_over else block
        chunks = yield from client.logs.follow(place.app_id, self._cursor, block=block)
        if not chunks:
            return None if self._is_over else []
        self._cursor = chunks[-1].entry
        return list(LogFilter().entries(place, chunks))

    def _block(self) -> int:
        if self._ends is None:
            return BLOCK_MS
        return max(0, min(BLOCK_MS, int((self._ends - time.monotonic()) * 1000)))


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class LogVerbs:
    """What the containers of an app, or of one pool, printed within the last seven days."""

    _find: Callable[[], Op[LogSource]]

    @property
    def fetch(self) -> FetchVerb:
        """Lines between two moments, the oldest first: `fetch(since=..., until=None)`."""
        return FetchVerb(self._find)

    @property
    def tail(self) -> TailVerb:
        """The newest lines, the oldest of them first: `tail(100)`."""
        return TailVerb(self._find)

    @property
    def stream(self) -> StreamVerb:
        """Lines as they are printed from now on, until the app ends or `timeout` seconds passed."""
        return StreamVerb(self._find)


@dataclass(frozen=True, slots=True)
class _Reading:
    _find: Callable[[], Op[LogSource]]

    def _iterate(self, pages: _Pages) -> Generator[LogEntry, None, None]:
        client = current_for(self._find)
        place = client.run(self._find())
        while (page := client.run(pages.next(client, place))) is not None:
            yield from page

    async def _aiterate(self, pages: _Pages) -> AsyncGenerator[LogEntry, None]:
        client = current_for(self._find)
        place = await client.aio(self._find())
        while (page := await client.aio(pages.next(client, place))) is not None:
            for entry in page:
                yield entry


class FetchVerb(_Reading):
    """`logs.fetch(...)` and `logs.fetch.aio(...)`; raises InvalidError for an unknown source."""

    __slots__ = ()

    def __call__(
        self,
        *,
        since: datetime,
        until: datetime | None = None,
        source: str | None = None,
        search_text: str = "",
    ) -> Generator[LogEntry, None, None]:
        """The lines, as they are asked for."""
        return self._iterate(_Fetch(since, until, LogFilter(source=source, text=search_text)))

    def aio(self, *, since: datetime, **wanted: Any) -> AsyncGenerator[LogEntry, None]:
        """The same for `async for`."""
        until, text = wanted.pop("until", None), wanted.pop("search_text", "")
        return self._aiterate(_Fetch(since, until, LogFilter(text=text, **wanted)))


class TailVerb(_Reading):
    """`logs.tail(...)` and `logs.tail.aio(...)`; raises InvalidError for an unknown source."""

    __slots__ = ()

    def __call__(
        self, entries: int = 100, *, source: str | None = None
    ) -> Generator[LogEntry, None, None]:
        """The lines."""
        return self._iterate(_Tail(entries, LogFilter(source=source)))

    def aio(
        self, entries: int = 100, *, source: str | None = None
    ) -> AsyncGenerator[LogEntry, None]:
        """The same for `async for`."""
        return self._aiterate(_Tail(entries, LogFilter(source=source)))


class StreamVerb(_Reading):
    """`logs.stream(...)` and `logs.stream.aio(...)`."""

    __slots__ = ()

    def __call__(self, timeout: float | None = None) -> Generator[LogEntry, None, None]:
        """The lines, as they arrive."""
        return self._iterate(_Stream(timeout))

    def aio(self, timeout: float | None = None) -> AsyncGenerator[LogEntry, None]:
        """The same for `async for`."""
        return self._aiterate(_Stream(timeout))
