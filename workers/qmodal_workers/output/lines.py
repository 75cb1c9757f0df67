"""Buffers what containers print between their pipes and Redis: bytes, cut at lines, of bounded size and rate."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from qmodal.store.history.logs import CHUNK_BYTES, LogChunk, Source
from qmodal_workers.ipc.output_words import NOBODY, Owner
from qmodal_workers.output.redaction import Redaction

MOST_BUFFERED_BYTES = 1024 * 1024
LONGEST_LINE = 16 * 1024
# An unfinished line, such as a prompt, is sent when it has waited for its end this long.
PARTIAL_LINE_SECONDS = 0.25
# A container may print so many bytes a second, and so many more at once after a while without output.
BYTES_PER_SECOND = 1024 * 1024
BURST_BYTES = 8 * BYTES_PER_SECOND


@dataclass(slots=True)
class PartialLine:
    """The start of a line whose end has not been printed yet; `since` in monotonic seconds."""

    content: bytes = b""
    since: float = 0.0
    owner: Owner = NOBODY


@dataclass(slots=True)
class Allowance:
    """How many bytes may still be kept; used up, it lasts again when a second's worth has come back."""

    left: float = BURST_BYTES
    is_used_up: bool = False
    _refilled: float = 0.0

    def refill(self, now: float) -> None:
        """Add what has come back until `now`, in monotonic seconds."""
        self.left = min(BURST_BYTES, self.left + (now - self._refilled) * BYTES_PER_SECOND)
        self._refilled = now
        if self.left >= BYTES_PER_SECOND:
            self.is_used_up = False

    def take(self, size: int) -> bool:
        """Whether so many bytes may be kept, which then are taken from it."""
        self.is_used_up = self.is_used_up or size > self.left
        if not self.is_used_up:
            self.left -= size
        return not self.is_used_up


@dataclass(slots=True)
class OutputBuffer:
    """The unsent output of one container; what is too much is dropped, and that is noted in it.

    Too much is more than 1 MiB that was not taken, or more than the allowance.
    """

    container: str
    app: str
    pool: str = ""
    function: str = ""
    redaction: Redaction = field(default_factory=Redaction)
    is_finished: bool = False  # nothing will be added
    allowance: Allowance = field(default_factory=Allowance)
    _chunks: deque[tuple[Source, Owner, bytearray]] = field(default_factory=deque)
    _lines: dict[Source, PartialLine] = field(default_factory=dict)
    _size: int = 0
    _dropped: int = 0
    _dropped_lines: int = 0

    def feed(self, source: Source, content: bytes, now: float, owner: Owner = NOBODY) -> None:
        """Add bytes that an input has printed; `now` in monotonic seconds."""
        self.allowance.refill(now)
        line = self._lines.setdefault(source, PartialLine())
        if line.content and line.owner != owner:
            content = self._end_other(source, line, content)
        line.owner = owner if not line.content else line.owner
        content = self.redaction(line.content + content)
        cut = content.rfind(b"\n") + 1
        if len(content) - cut > LONGEST_LINE:
            # The last bytes may be the beginning of a secret, so they wait for the rest.
            cut = len(content) - self.redaction.overlap
        if cut or not line.content:
            line.since = now
        line.content = content[cut:]
        if cut:
            self._push(source, content[:cut], line.owner)

    def _end_other(self, source: Source, line: PartialLine, content: bytes) -> bytes:
        """Push half a line of another input before this content; what is left of the content.

        If a secret may begin in that half and go on, the line is the other input's up to its end: of two
        halves neither would be hidden.
        """
        if not self.redaction.may_span(line.content, content):
            self._push(source, line.content, line.owner)
            line.content = b""
            return content
        end = content.find(b"\n") + 1
        if not end:
            return content
        self._push(source, self.redaction(line.content + content[:end]), line.owner)
        line.content = b""
        return content[end:]

    def _push(self, source: Source, content: bytes, owner: Owner) -> None:
        for piece in _pieces(content):
            # What the worker says is little, and nobody else says it.
            if source == "system" or self._has_room(len(piece)):
                self._note_dropped()
                self._append(source, owner, piece)
            else:
                self._dropped += len(piece)
                self._dropped_lines += piece.count(b"\n")

    def _has_room(self, size: int) -> bool:
        return self._size + size <= MOST_BUFFERED_BYTES and self.allowance.take(size)

    def _note_dropped(self) -> None:
        if self._dropped:
            note = f"[{self._dropped} bytes ({self._dropped_lines} lines) of output were dropped here]\n"
            self._dropped = self._dropped_lines = 0
            self._append("system", NOBODY, note.encode())

    def _append(self, source: Source, owner: Owner, content: bytes) -> None:
        self._size += len(content)
        last = self._chunks[-1] if self._chunks else None
        if (
            last is not None
            and last[:2] == (source, owner)
            and len(last[2]) + len(content) <= CHUNK_BYTES
        ):
            last[2].extend(content)
        else:
            self._chunks.append((source, owner, bytearray(content)))

    def take(self, now: float) -> list[LogChunk]:
        """Remove and return all whole lines, and unfinished ones that are old enough or the last."""
        self.allowance.refill(now)
        for source, line in self._lines.items():
            if line.content and (self.is_finished or now - line.since >= PARTIAL_LINE_SECONDS):
                self._push(source, line.content, line.owner)
                line.content = b""
        if self.is_finished or not self.allowance.is_used_up:
            self._note_dropped()
        taken, self._chunks, self._size = self._chunks, deque(), 0
        return [
            LogChunk(
                self.container,
                source,
                bytes(content),
                pool=self.pool,
                function=self.function,
                call=owner.call,
                index=owner.part,
            )
            for source, owner, content in taken
        ]

    @property
    def is_waiting(self) -> bool:
        """Whether something waits that is not taken yet: the end of a line, or what says that some were dropped."""
        return self._dropped > 0 or any(line.content for line in self._lines.values())


def _pieces(content: bytes) -> Iterator[bytes]:
    """The content in pieces of bounded size, cut behind lines where that is possible."""
    start = 0
    while len(content) - start > CHUNK_BYTES:
        end = content.rfind(b"\n", start, start + CHUNK_BYTES) + 1 or start + CHUNK_BYTES
        yield content[start:end]
        start = end
    yield content[start:]
