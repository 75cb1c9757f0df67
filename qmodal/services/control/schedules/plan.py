"""The plan of one control process: which slots it should put in line now; pure, with the clock as an argument."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from qmodal.services.control.schedules.table import YOUNG_MS, Key, Schedule

# All in ms. What the first process has not made a call of by then, the others put in line, too.
GRACE_MS = 250
# All slots of so long are caught up, so that none is lost when a process dies; of older ones only the latest.
HICCUP_MS = 3000
# A job that a process took with it as it died is put in line again, under another id; the next time after twice that.
RESCUE_MS = 1000
MOST_ATTEMPTS = 3
# Without a slot before that, it is asked again then.
FAR_MS = 3_600_000


class Due(NamedTuple):
    """A slot to put in line, and which attempt that is."""

    schedule: Schedule
    slot: int
    attempt: int = 1


class _Sent(NamedTuple):
    attempt: int
    at: int


class _Next(NamedTuple):
    """The first slot behind `after`, worked out before."""

    identity: str
    after: int
    slot: int


class Plan:
    """What was put in line, and what is due next."""

    def __init__(self) -> None:
        self._schedules: Mapping[Key, Schedule] = {}
        self._next: dict[Key, _Next] = {}
        # Slots that were put in line and were not seen to be calls, and the latest of all that were.
        self._open: dict[Key, dict[int, _Sent]] = {}
        self._latest: dict[Key, int] = {}

    def take(self, schedules: Mapping[Key, Schedule], now: int) -> None:
        """These are the schedules now."""
        self._schedules = schedules
        self._next = {key: each for key, each in self._next.items() if key in schedules}
        self._latest = {key: slot for key, slot in self._latest.items() if key in schedules}
        kept = {
            key: {
                slot: each for slot, each in slots.items() if not schedules[key].is_over(slot, now)
            }
            for key, slots in self._open.items()
            if key in schedules and not schedules[key].notes.is_paused
        }
        self._open = {key: slots for key, slots in kept.items() if slots}

    def due(self, now: int, *, is_first: bool) -> list[Due]:
        """What to put in line, if this process looks first, or else if the first one has not done its work."""
        until = now if is_first else now - GRACE_MS
        return [
            Due(schedule, slot)
            for schedule in self._schedules.values()
            if not schedule.notes.is_paused
            for slot in self._missed(schedule, until)
        ]

    def stuck(self, now: int) -> list[Due]:
        """What was put in line and is not a call yet, although that should not take so long."""
        return [
            Due(self._schedules[key], slot, each.attempt + 1)
            for key, slots in self._open.items()
            for slot, each in slots.items()
            if each.attempt < MOST_ATTEMPTS
            and now - each.at >= RESCUE_MS * 2 ** (each.attempt - 1)
            and now - slot < YOUNG_MS
        ]

    def sent(self, due: Due, now: int) -> None:
        """It was put in line."""
        key = due.schedule.key
        self._open.setdefault(key, {})[due.slot] = _Sent(due.attempt, now)
        self._latest[key] = max(due.slot, self._latest.get(key, 0))

    def next_at(self, now: int) -> int:
        """When something is due next, as far as that is known."""
        times = (each.slot for each in self._next.values())
        return min((slot for slot in times if slot > now), default=now + FAR_MS)

    def _missed(self, schedule: Schedule, until: int) -> list[int]:
        after = max(schedule.baseline(until + GRACE_MS), self._latest.get(schedule.key, 0))
        if self._first_behind(schedule, after) > until:
            return []
        return schedule.cadence.missed(after, until, within=HICCUP_MS)

    def _first_behind(self, schedule: Schedule, after: int) -> int:
        known, identity = self._next.get(schedule.key), schedule.cadence.identity
        if known is None or (known.identity, known.after) != (identity, after):
            slot = schedule.cadence.next(after)
            known = _Next(identity, after, after + 100 * FAR_MS if slot is None else slot)
            self._next[schedule.key] = known
        return known.slot


def overdue(schedules: Mapping[Key, Schedule], now: int) -> Iterator[tuple[Schedule, int]]:
    """For how many ms the next slot of each schedule has waited to become a call."""
    for schedule in schedules.values():
        waited = 0
        if not schedule.notes.is_paused:
            slot = schedule.cadence.next(schedule.baseline(now))
            waited = 0 if slot is None else max(0, now - slot)
        yield schedule, waited
