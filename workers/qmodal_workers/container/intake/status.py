"""Publishes in the shared record what a container has claimed, and what it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from qmodal.store.entries import Claimed
from qmodal_workers.container.intake.prefetch import PrefetchBuffer
from qmodal_workers.container.run.slot import Slot
from qmodal_workers.ipc.entry_names import name_of
from qmodal_workers.ipc.shared_record import (
    HAS_PREFETCH,
    ONE_STARTED,
    SERIAL_IS_ENTRY,
    STATES,
    SharedRecord,
)

IDLE, BUSY = STATES.index("idle"), STATES.index("busy")


class StatusWriter:
    """Publishes each change; the names of a claim's entries are written once, then only places among them."""

    __slots__ = (
        "_buffer",
        "_place",
        "_record",
        "_serial",
        "_slot",
        "_started",
        "_taken",
        "completed",
    )

    def __init__(self, record: SharedRecord, slot: Slot, buffer: PrefetchBuffer) -> None:
        self._record = record
        self._started, self._serial = record.started_cell, record.serial_cell
        self._slot = slot
        self._buffer = buffer
        # What the last publication says beside serial and start; if it holds for the next input, too, only
        # these two are written.
        self._place: tuple[int, int, bool] | None = None
        self._taken = 0  # how many of the entries that were claimed last are admitted
        self.completed = 0

    def claimed(self, claimed: Sequence[Claimed], connection: int) -> None:
        """Take in that these entries are held now, and nothing else but the prefetch."""
        self._taken, self._place = 0, None
        self._record.connection = connection
        self._record.hold([name_of(lane, entry) for lane, entry, _ in claimed])

    def take(self) -> None:
        """Take in that the next of the claimed entries is being admitted."""
        self._taken += 1

    def busy(self) -> None:
        """Publish that the entry that was taken last runs, as one input."""
        slot, buffer = self._slot, self._buffer
        serial, taken = slot.serial, self._taken
        place = (taken + len(buffer.queue), taken - serial, buffer.stage != "empty")
        if place == self._place:
            self._started.value = slot.started
            self._serial.value = serial
        else:
            self._place = place
            self._publish(BUSY, serial, slot.started, SERIAL_IS_ENTRY, running=1)

    def packed(self, part: int) -> None:
        """Publish that the entry that was taken last is a pack, whose input `part` of the call will run."""
        self._place = None
        self._publish(BUSY, self._slot.serial + 1, self._slot.started, 0, running=1, part=part)

    def idle(self) -> None:
        """Publish that no user code runs.

        The entry that was taken last still counts as started: a death before its outcome is stored may
        be its doing (a result that takes all memory), and uncharged it would come again for ever. Once
        the outcome is stored, the entry is gone and the charge finds nothing.
        """
        self._place = None
        running = int(self._taken > 0)
        self._publish(IDLE, 0, time.monotonic_ns(), 0, running=running, part=self._slot.part)

    def _publish(
        self, state: int, serial: int, since: int, flags: int, *, running: int, part: int = 0
    ) -> None:
        taken, buffer = self._taken, self._buffer
        if serial and buffer.stage != "empty":
            flags |= HAS_PREFETCH
        end = taken + len(buffer.queue)
        half = self._record.begin(state, serial, since)
        half.completed = self.completed
        half.flags = flags + running * ONE_STARTED
        half.first = taken - running
        half.end = end
        half.part = part
        self._record.publish()
