"""Writers: by their names and numbers the server knows a write that was sent twice, as its reply was lost."""

from __future__ import annotations

from collections import deque

from qmodal.wire.ids import new_writer_id

# For so long the server knows what a writer wrote last: longer than an exchange is repeated.
REMEMBER_MS = 600_000


class Writer:
    """A name, and the number of its next write; its last number says all, as it writes one thing at a time."""

    __slots__ = ("name", "number")

    def __init__(self) -> None:
        self.name = new_writer_id()
        self.number = 1


class Writers:
    """The writers of one process."""

    __slots__ = ("_idle",)

    def __init__(self) -> None:
        self._idle: deque[Writer] = deque()

    def take(self) -> Writer:
        """One for a single write; nobody else has it meanwhile."""
        try:
            return self._idle.pop()
        except IndexError:
            return Writer()

    def give_back(self, writer: Writer) -> None:
        """It has its reply, and nothing was written."""
        self._idle.append(writer)

    def give(self, writer: Writer) -> None:
        """It has its reply. Not after an exception: what was interrupted may reach the server after a later write."""
        writer.number += 1
        self._idle.append(writer)
