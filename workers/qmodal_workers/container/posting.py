"""What a container shows its worker in the shared record: what it has claimed, and what it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from qmodal.store.entries import Claimed
from qmodal_workers.container.shelf import Shelf
from qmodal_workers.record import AHEAD, EACH, ONE_RUNS, SERIAL, STARTED, STATES, Record, name_of

IDLE, BUSY = STATES.index("idle"), STATES.index("busy")


class Posting:
    """Keeps the record true; what was claimed together is written once, and then pointed into.

    `is_once`: nothing that was started may start again elsewhere.
    """

    __slots__ = ("_is_once", "_place", "_record", "_shelf", "_taken", "_words", "completed")

    def __init__(self, record: Record, shelf: Shelf, *, is_once: bool) -> None:
        self._record = record
        self._words = record.words
        self._shelf = shelf
        self._is_once = is_once
        # Of the last input that was posted: the next one differs in serial and start, if in nothing else.
        self._place: tuple[int, int, bool] | None = None
        self._taken = 0  # from the front of what was claimed last
        self.completed = 0

    def claimed(self, claimed: Sequence[Claimed], connection: int) -> None:
        """These are held now, and nothing else but what is claimed ahead."""
        self._taken, self._place = 0, None
        self._record.connection = connection
        self._record.hold([name_of(lane, entry) for lane, entry, _ in claimed])

    def take(self) -> None:
        """The next one is being looked at."""
        self._taken += 1

    def busy(self, serial: int) -> None:
        """The one that was taken last runs."""
        shelf = self._shelf
        place = (self._taken + len(shelf.queue), self._taken - serial, shelf.has_ahead)
        if place == self._place:
            self._words[STARTED] = shelf.since
            self._words[SERIAL] = serial
        else:
            self._place = place
            self._post(BUSY, serial, shelf.since, EACH, running=1)

    def packed(self, serial: int, part: int) -> None:
        """The one that was taken last is a pack; its input `part` of the call will run."""
        self._place = None
        self._post(BUSY, serial, self._shelf.since, 0, running=1, part=part)

    def idle(self) -> None:
        """Nothing runs."""
        self._place = None
        # Settled or not, what was started last counts as started when this is the end.
        running = int(self._is_once and self._taken > 0)
        self._post(IDLE, 0, time.monotonic_ns(), 0, running=running)

    def _post(
        self, state: int, serial: int, since: int, flags: int, *, running: int, part: int = 0
    ) -> None:
        taken, shelf = self._taken, self._shelf
        if serial and shelf.has_ahead:
            flags |= AHEAD
        self._record.post(
            state,
            serial,
            since,
            self.completed,
            flags + running * ONE_RUNS,
            taken - running,
            taken + len(shelf.queue),
            part,
        )
