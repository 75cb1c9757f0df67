"""What a container shows its worker in the shared record: what it has claimed, and what it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from qmodal.store.entries import Claimed
from qmodal_workers.container.shelf import Shelf
from qmodal_workers.record import AHEAD, ONE_RUNS, STATES, Record, name_of

IDLE, BUSY = STATES.index("idle"), STATES.index("busy")


class Posting:
    """Keeps the record true; what was claimed together is written once, and then pointed into.

    `is_once`: nothing that was started may start again elsewhere.
    """

    __slots__ = ("_is_once", "_record", "_shelf", "_taken", "completed")

    def __init__(self, record: Record, shelf: Shelf, *, is_once: bool) -> None:
        self._record = record
        self._shelf = shelf
        self._is_once = is_once
        self._taken = 0  # from the front of what was claimed last
        self.completed = 0

    def claimed(self, claimed: Sequence[Claimed], connection: int) -> None:
        """These are held now, and nothing else but what is claimed ahead."""
        self._taken = 0
        self._record.connection = connection
        self._record.hold([name_of(lane, entry) for lane, entry, _ in claimed])

    def take(self) -> None:
        """The next one is being looked at."""
        self._taken += 1

    def busy(self, serial: int, part: int = 0) -> None:
        """It runs; of a pack, the input `part` of its call will."""
        taken, shelf = self._taken, self._shelf
        end = taken + len(shelf)
        flags = ONE_RUNS | AHEAD if shelf.is_expecting else ONE_RUNS
        self._record.post(BUSY, serial, shelf.since, self.completed, flags, taken - 1, end, part)

    def idle(self) -> None:
        """Nothing runs."""
        taken = self._taken
        end, now = taken + len(self._shelf), time.monotonic_ns()
        if self._is_once and taken:
            # Settled or not, what was started last counts as started when this is the end.
            self._record.post(IDLE, 0, now, self.completed, ONE_RUNS, taken - 1, end)
        else:
            self._record.post(IDLE, 0, now, self.completed, 0, taken, end)
