"""Labels: what stands before the lines on a terminal once several calls or containers print."""

from __future__ import annotations

import itertools

from qmodal.store.history.logs import LogChunk
from qmodal.telemetry.printable import printable

# Calls whose numbers are remembered; an older one that prints again gets a new number.
MOST_CALLS = 10_000
COLOURS = (36, 32, 35, 34, 96, 92, 95, 94)


class Labels:
    """Tells apart whose lines are shown: `square-2` is the second call that has printed, `square-2#17` its input 17.

    Lines without a call are labelled with their container. While one call prints in one container, there
    is nothing to tell apart.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # by call
        self._next = itertools.count(1)
        self._of_many: set[str] = set()  # calls of which several inputs have printed
        self._containers: set[str] = set()
        self._width = 0

    def see(self, chunk: LogChunk) -> None:
        """Take in who prints."""
        if chunk.pool and len(self._containers) < 2:
            self._containers.add(chunk.container)
        if not chunk.call:
            return
        if chunk.call not in self._numbers:
            self._numbers[chunk.call] = next(self._next)
            if len(self._numbers) > MOST_CALLS:
                oldest = next(iter(self._numbers))
                del self._numbers[oldest]
                self._of_many.discard(oldest)
        if chunk.index > 0:
            self._of_many.add(chunk.call)

    @property
    def are_needed(self) -> bool:
        """Whether more than one call, or container, has printed."""
        return len(self._numbers) > 1 or len(self._containers) > 1

    def of(self, chunk: LogChunk) -> tuple[str, int]:
        """The label, as wide as the widest so far, and the number of its colour."""
        number = self._numbers.get(chunk.call, 0)
        if number:
            text = f"{chunk.function.removesuffix('.*') or 'call'}-{number}"
            if chunk.call in self._of_many and chunk.index >= 0:
                text += f"#{chunk.index}"
        else:
            text = chunk.container or "qmodal"
        text = printable(text)
        self._width = max(self._width, len(text))
        return text.ljust(self._width), COLOURS[number % len(COLOURS)]
