"""What a container runs that runs several inputs at once: a row of shared memory for each."""

from __future__ import annotations

import mmap
from contextlib import suppress
from dataclasses import dataclass

# A container holds no more inputs than this at once, whatever its concurrency and its batches.
MOST_ROWS = 4096
WORDS = 8
SIZE = MOST_ROWS * WORDS * 8
# The words of a row. The container writes the first ones, with the serial last, and a serial of 0
# before it changes anything; the worker writes `_WHY` and then `_TARGET`, the serial that it means.
_SERIAL, _STARTED, _LANE, _MILLISECONDS, _SEQUENCE, _TARGET, _WHY = range(7)
_READS = 5


@dataclass(frozen=True, slots=True)
class RunningInput:
    """An input that has started: its row, its serial, its entry, and since when (monotonic nanoseconds).

    `started` is 0 when its user code has ended and its outcome is not stored yet. The inputs of a
    batch have the same serial.
    """

    row: int
    serial: int
    started: int
    lane: int
    entry: str


class RunningTable:
    """The rows, in a part of a mapping that starts at `offset`; rows that were never used cost no memory."""

    __slots__ = ("_words",)

    def __init__(self, shared: mmap.mmap, offset: int) -> None:
        self._words = memoryview(shared)[offset : offset + SIZE].cast("Q")

    def start(self, row: int, serial: int, started: int, lane: int, entry: str) -> None:
        """The container: that input starts, unless it has been ordered to stop already (`order`)."""
        at, words = row * WORDS, self._words
        milliseconds, _, sequence = entry.partition("-")
        words[at + _STARTED] = started
        words[at + _LANE] = lane
        words[at + _MILLISECONDS] = int(milliseconds)
        words[at + _SEQUENCE] = int(sequence)
        words[at + _SERIAL] = serial

    def finish(self, row: int) -> None:
        """The container: user code of that input has ended, and its outcome is not stored yet."""
        self._words[row * WORDS + _STARTED] = 0

    def end(self, row: int) -> None:
        """The container: nothing is in that row."""
        self._words[row * WORDS + _SERIAL] = 0

    def order(self, row: int) -> int:
        """The container: why the worker wants the input of that row to stop; 0 if it does not."""
        at, words = row * WORDS, self._words
        return words[at + _WHY] if words[at + _TARGET] == words[at + _SERIAL] else 0

    def interrupt(self, row: int, serial: int, why: int) -> None:
        """The worker: the input of that serial is to stop; its signal follows."""
        at, words = row * WORDS, self._words
        words[at + _WHY] = why
        words[at + _TARGET] = serial

    def running(self, rows: int) -> list[RunningInput]:
        """The worker: what is in the first so many rows; a hint, as it is written meanwhile.

        What runs comes first, longest first; then what has ended.
        """
        found = [self._read(row) for row in range(min(rows, MOST_ROWS))]
        return sorted(
            (each for each in found if each is not None),
            key=lambda each: (each.started == 0, each.started),
        )

    def _read(self, row: int) -> RunningInput | None:
        at, words = row * WORDS, self._words
        for _ in range(_READS):
            serial = words[at + _SERIAL]
            if serial == 0:
                return None
            started, lane = words[at + _STARTED], words[at + _LANE]
            entry = f"{words[at + _MILLISECONDS]}-{words[at + _SEQUENCE]}"
            if words[at + _SERIAL] == serial and lane in (1, 2):
                return RunningInput(row, serial, started, lane, entry)
        return None

    def close(self) -> None:
        """Let go of the mapping."""
        with suppress(BufferError):
            self._words.release()
