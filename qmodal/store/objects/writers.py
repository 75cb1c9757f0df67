"""Writers: by their names and numbers the server knows a write that was sent twice, as its reply was lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from qmodal.wire.ids import new_writer_id

# For so long the server knows what a writer wrote last: longer than an exchange is repeated.
REMEMBER_MS = 600_000


class Writers:
    """The writers of one process, each for one write at a time, so that its last number says enough."""

    def __init__(self) -> None:
        self._idle: deque[tuple[str, int]] = deque()

    @contextmanager
    def next(self) -> Iterator[tuple[str, int]]:
        """A writer's name, and the number of what it writes in this block."""
        try:
            name, number = self._idle.pop()
        except IndexError:
            name, number = new_writer_id(), 0
        yield name, number + 1
        # Not after an exception: what was interrupted may reach the server later than the next write.
        self._idle.append((name, number + 1))
