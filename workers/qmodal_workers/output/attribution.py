"""Reads one pipe of a container, and says of each part which input has printed it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from qmodal_workers.ipc.endpoints import PIPE_BYTES
from qmodal_workers.ipc.output_words import (
    MARK_BYTES,
    NOBODY,
    OutputWords,
    Owner,
    Running,
    owner_in,
)

READ_BYTES = 64 * 1024
# As often as that a pipe is read again before the input of its last bytes is decided: more than it can hold.
MOST_READS = PIPE_BYTES // READ_BYTES + 4
Part = tuple[bytes, Owner]


class AttributedPipe:
    """One pipe, with its word (STDOUT or STDERR); without `words` all that comes from it is nobody's.

    Bytes before a mark are of the input that the mark says. Bytes behind the last one are of the input that
    runs, once the pipe is empty, or more was read of it than it can hold: one that had ended before would
    have left a mark behind its own. It must be the same before and after the read. If another one runs
    then, the mark of the former one is in the pipe by now, or it has printed nothing since its last one; so
    the pipe is read again.
    """

    def __init__(self, fd: int, word: int, words: OutputWords | None = None) -> None:
        self.fd = fd
        self._word = word
        self._words = words
        self._secret = b"" if words is None else words.secret
        self._kept = b""  # the beginning of a mark

    def read(self) -> list[Part] | None:
        """What is there, at most about PIPE_BYTES; None at the end of the pipe.

        Raises BlockingIOError if there is nothing.
        """
        words = self._words
        if words is None:
            whole = os.read(self.fd, READ_BYTES)
            return [(whole, NOBODY)] if whole else None
        rest, self._kept = self._kept, b""
        before, content, after = self._read_once(words)
        if not content:
            if content is None and not rest:
                raise BlockingIOError
            return [(rest, after.owner)] if rest else None
        parts, rest = self._parted(rest + content)
        for _ in range(MOST_READS):
            if before.number == after.number >= 0 and len(content or b"") < READ_BYTES:
                break
            before, content, after = self._read_once(words)
            marked, rest = self._parted(rest + (content or b""))
            parts += marked
        if content is not None and len(content) == READ_BYTES:
            rest = self._without_half_a_mark(rest)
        if rest:
            parts.append((rest, after.owner))
        return parts

    def _read_once(self, words: OutputWords) -> tuple[Running, bytes | None, Running]:
        """What was read, None if there is nothing; and what runs before and after that."""
        before = words.begin_reading(self._word)
        content: bytes | None = None
        try:
            with suppress(BlockingIOError):
                content = os.read(self.fd, READ_BYTES)
        finally:
            after = words.end_reading(self._word, len(content or b""))
        return before, content, after

    def _parted(self, content: bytes) -> tuple[list[Part], bytes]:
        """What marks say whose it is, and what is behind the last of them."""
        parts: list[Part] = []
        start = 0
        for place in self._marks(content):
            if place > start:
                parts.append((content[start:place], owner_in(content, place)))
            start = place + MARK_BYTES
        return parts, content[start:]

    def _marks(self, content: bytes) -> Iterator[int]:
        place = content.find(self._secret)
        while 0 <= place <= len(content) - MARK_BYTES:
            yield place
            place = content.find(self._secret, place + MARK_BYTES)

    def _without_half_a_mark(self, content: bytes) -> bytes:
        """A read of full size may end within a mark, whose beginning is kept for the next one."""
        secret = self._secret
        place = content.find(secret)
        if place < 0:
            shortest = max(0, len(content) - len(secret) + 1)
            place = content.find(secret[:1], shortest)
            while place >= 0 and not secret.startswith(content[place:]):
                place = content.find(secret[:1], place + 1)
        if place < 0:
            return content
        self._kept = content[place:]
        return content[:place]
