"""The plan of one control process: which slots it should put in line now; pure, with the clock as an argument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from qmodal.services.control.schedules.table import Key, Schedule

# All in ms. What the first process has not made a call of by then, the others put in line, too.
GRACE_MS = 500
# A job that was taken by a process that died is put in line again, under another id, after this; twice as long each time.
RESCUE_MS = 1500
MOST_ATTEMPTS = 8
# Without a slot before that, it is asked again then.
FAR_MS = 3_600_000


class Due(NamedTuple):
    """A slot to put in line, and how often that was done before."""

    schedule: Schedule
    slot: int
    attempt: int


@dataclass(slots=True)
class _Sent:
    slot: int = 0
    attempt: int = 0
    at: int = 0


@dataclass(slots=True)
class _Next:
    """The first slot behind `after`, worked out before."""

    identity: str
    after: int
    slot: int


class Plan:
    """What was put in line, and what is due next."""

    def __init__(self) -> None:
        self._sent: dict[Key, _Sent] = {}
        self._next: dict[Key, _Next] = {}
        self._schedules: Mapping[Key, Schedule] = {}

    def take(self, schedules: Mapping[Key, Schedule]) -> None:
        """These are the schedules now."""
        self._schedules = schedules
        self._sent = {key: each for key, each in self._sent.items() if key in schedules}
        self._next = {key: each for key, each in self._next.items() if key in schedules}

    def due(self, now: int, *, is_first: bool) -> list[Due]:
        """What to put in line, if this process looks first, or else if the first one has not done its work."""
        found = []
        for schedule in self._schedules.values():
            each = None if schedule.notes.is_paused else self._due(schedule, now)
            if each is not None and (is_first or now - each.slot >= GRACE_MS):
                found.append(each)
        return found

    def sent(self, due: Due, now: int) -> None:
        """It was put in line."""
        self._sent[due.schedule.key] = _Sent(due.slot, due.attempt, now)

    def next_at(self, now: int) -> int:
        """When something is due next, as far as that is known."""
        times = (each.slot for each in self._next.values())
        return min((slot for slot in times if slot > now), default=now + FAR_MS)

    def overdue(self, now: int) -> dict[Key, int]:
        """For how many ms a slot of each schedule has waited to become a call."""
        found = dict.fromkeys(self._schedules, 0)
        for key, schedule in self._schedules.items():
            if not schedule.notes.is_paused:
                slot = schedule.cadence.next(schedule.baseline(now))
                found[key] = 0 if slot is None else max(0, now - slot)
        return found

    def _due(self, schedule: Schedule, now: int) -> Due | None:
        done = schedule.baseline(now)
        sent = self._sent.get(schedule.key) or _Sent()
        after = max(done, sent.slot)
        if self._first_behind(schedule, after, now) <= now:
            slot = schedule.cadence.latest(after, now)
            if slot is not None:
                return Due(schedule, slot, 1)
        if done >= sent.slot or sent.attempt >= MOST_ATTEMPTS:
            return None
        waited = now - sent.at
        is_stuck = waited >= RESCUE_MS * 2 ** (sent.attempt - 1)
        return Due(schedule, sent.slot, sent.attempt + 1) if is_stuck else None

    def _first_behind(self, schedule: Schedule, after: int, now: int) -> int:
        known, identity = self._next.get(schedule.key), schedule.cadence.identity
        if known is None or (known.identity, known.after) != (identity, after):
            slot = schedule.cadence.next(after)
            known = _Next(identity, after, now + 100 * FAR_MS if slot is None else slot)
            self._next[schedule.key] = known
        return known.slot
