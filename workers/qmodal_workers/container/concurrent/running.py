"""The groups that run, and how they stand in the shared record."""

from __future__ import annotations

import time

from qmodal_workers.container.concurrent.group import Group
from qmodal_workers.container.concurrent.room import Rows
from qmodal_workers.container.process.output_marks import OutputMarks
from qmodal_workers.container.run.attempt import Attempt
from qmodal_workers.ipc.shared_record import STATES, SharedRecord

IDLE, BUSY = STATES.index("idle"), STATES.index("busy")


class Running:
    """Keeps the table true; by the thread of the loop, but for `settled`.

    The rows of a group are in it until its outcomes are written: whatever ends the container before
    may come of them, and would come again for ever if nobody was charged.
    """

    def __init__(self, record: SharedRecord, marks: OutputMarks) -> None:
        self._record = record
        self._marks = marks
        # Whose output it is, as the marks say: one group's, that of several, or nobody's.
        self._whose: Group | None = None
        self._is_shared = False
        self._rows = Rows()
        self._groups: dict[int, Group] = {}  # by serial, which is the order of their starts
        self._entries: dict[int, tuple[int, str]] = {}  # by row
        self._serial = 0

    def groups(self) -> list[Group]:
        """The groups whose user code runs, longest first; also for a signal's handler."""
        return list(self._groups.values())

    @property
    def count(self) -> int:
        """How many groups that is."""
        return len(self._groups)

    def start(self, attempts: list[Attempt]) -> Group:
        """These start together."""
        self._serial += 1
        group = Group(attempts, self._rows.take(len(attempts)))
        group.slot.serial = self._serial
        group.slot.started = now = time.monotonic_ns()
        if not self._groups:
            self._record.tally.begin_busy(now)
        self._groups[self._serial] = group
        for row, attempt in zip(group.rows, attempts, strict=True):
            lane, entry, _ = attempt.claimed
            self._entries[row] = lane, entry
            self._record.table.start(row, self._serial, now, lane, entry)
        self._look_whose_output()
        return group

    def finish(self, group: Group) -> None:
        """Its user code has ended, or is of no interest any more; what became of it will be written."""
        for row in group.rows:
            self._record.table.finish(row)
        group.is_over = True
        if self._groups.pop(group.slot.serial, None):
            self._look_whose_output()
            if not self._groups:
                self._record.tally.end_busy(time.monotonic_ns())

    def _look_whose_output(self) -> None:
        """While several groups run, nobody can tell whose what they print is."""
        is_shared = len(self._groups) > 1
        whose = None if is_shared else next(iter(self._groups.values()), None)
        if whose is self._whose and is_shared == self._is_shared:
            return
        if self._whose is not None or self._is_shared:
            self._marks.end()
        self._whose, self._is_shared = whose, is_shared
        if whose is not None:
            self._marks.begin(*whose.owner)
        elif is_shared:
            self._marks.begin("", -1)

    def settled(self, rows: list[int]) -> list[tuple[int, str]]:
        """What stood in these rows is written, or given back; their entries. By any thread."""
        for row in rows:
            self._record.table.end(row)
        entries = [self._entries.pop(row) for row in rows]
        self._rows.give_back(rows)
        return entries

    def publish(self, connection: int, completed: int) -> None:
        """Write how things stand into the record."""
        first = next(iter(self._groups.values()), None)
        self._record.connection = connection
        slot = None if first is None else first.slot
        half = self._record.begin(
            IDLE if slot is None else BUSY,
            0 if slot is None else slot.serial,
            time.monotonic_ns() if slot is None else slot.started,
        )
        half.completed = completed
        half.flags = 0
        half.rows = max(1, self._rows.used)
        self._record.publish()
