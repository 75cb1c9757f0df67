"""Buffers what containers print between their pipes and Redis: bytes, cut at lines, of bounded size."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from qmodal.store.history.logs import LogChunk, Source
from qmodal_workers.output.redaction import Redaction

MOST_BUFFERED_BYTES = 1024 * 1024
CHUNK_BYTES = 64 * 1024
LONGEST_LINE = 16 * 1024
# An unfinished line, such as a prompt, is sent when it has waited for its end this long.
PARTIAL_LINE_SECONDS = 0.25


@dataclass(slots=True)
class PartialLine:
    """The start of a line whose end has not been printed yet; `since` in monotonic seconds."""

    content: bytes = b""
    since: float = 0.0


@dataclass(slots=True)
class OutputBuffer:
    """The unsent output of one container; beyond 1 MiB it is dropped, and that is noted in it."""

    container: str
    app: str
    pool: str = ""
    redaction: Redaction = field(default_factory=Redaction)
    is_finished: bool = False  # nothing will be added
    _chunks: deque[tuple[Source, bytearray]] = field(default_factory=deque)
    _lines: dict[Source, PartialLine] = field(default_factory=dict)
    _size: int = 0
    _dropped: int = 0

    def feed(self, source: Source, content: bytes, now: float) -> None:
        """Add bytes that were printed; `now` in monotonic seconds."""
        line = self._lines.setdefault(source, PartialLine())
        content = self.redaction(line.content + content)
        cut = content.rfind(b"\n") + 1
        if len(content) - cut > LONGEST_LINE:
            # The last bytes may be the beginning of a secret, so they wait for the rest.
            cut = len(content) - self.redaction.overlap
        if cut or not line.content:
            line.since = now
        line.content = content[cut:]
        if cut:
            self._push(source, content[:cut])

    def _push(self, source: Source, content: bytes) -> None:
        if self._size + len(content) > MOST_BUFFERED_BYTES:
            self._dropped += len(content)
            return
        self._note_dropped()
        self._append(source, content)

    def _note_dropped(self) -> None:
        if self._dropped:
            note = f"[{self._dropped} bytes of output were dropped here]\n"
            self._dropped = 0
            self._append("system", note.encode())

    def _append(self, source: Source, content: bytes) -> None:
        self._size += len(content)
        last = self._chunks[-1] if self._chunks else None
        if last is not None and last[0] == source and len(last[1]) < CHUNK_BYTES:
            last[1].extend(content)
        else:
            self._chunks.append((source, bytearray(content)))

    def take(self, now: float) -> list[LogChunk]:
        """Remove and return all whole lines, and unfinished ones that are old enough or the last."""
        for source, line in self._lines.items():
            if line.content and (self.is_finished or now - line.since >= PARTIAL_LINE_SECONDS):
                self._push(source, line.content)
                line.content = b""
        taken, self._chunks, self._size = self._chunks, deque(), 0
        if self._dropped:
            self._note_dropped()
            taken.extend(self._chunks)
            self._chunks, self._size = deque(), 0
        return [
            LogChunk(self.container, source, bytes(content), pool=self.pool)
            for source, content in taken
        ]

    @property
    def is_waiting(self) -> bool:
        """Whether an unfinished line waits for its end."""
        return any(line.content for line in self._lines.values())
