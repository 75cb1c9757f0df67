"""Cadences: at which moments a Cron or a Period is due, as arithmetic; the moments are called slots.

All moments are whole milliseconds since 1970. A local time that a change of clocks leaves out is due as soon as the
clock has jumped. One that comes twice is due the first time only, unless the cron line has `*` for its minutes or
hours: what runs through the night every half an hour goes on doing so.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from qmodal.exception import InvalidError

SECOND_MS = 1000
# How far back a missed slot is looked for, step by step: each has at most some hundred slots of a line that has none in
# the step before.
_STEPS_MS = tuple(
    minutes * 60 * SECOND_MS
    for minutes in (2, 120, 2 * 1440, 62 * 1440, 2 * 366 * 1440, 9 * 366 * 1440)
)


@dataclass(frozen=True, slots=True)
class Cadence:
    """When something is due; `identity` is equal for cadences with the same slots."""

    identity: str

    def next(self, after: int) -> int | None:
        """The first slot behind that moment; None if there is none."""
        return next(self._from(after), None)

    def missed(self, after: int, now: int, *, within: int) -> list[int]:
        """The slots behind `after` and not behind `now`: all of the last `within` ms, or else the latest one."""
        slots = []
        for slot in self._from(max(after, now - within)):
            if slot > now:
                break
            slots.append(slot)
        latest = None if slots else self.latest(after, now)
        return slots if latest is None else [latest]

    def latest(self, after: int, now: int) -> int | None:
        """The last slot behind `after` and not behind `now`; None if there is none."""
        for step in _STEPS_MS:
            begin = max(after, now - step)
            found = self._last(begin, now)
            if found is not None or begin == after:
                return found
        return None

    def _last(self, begin: int, now: int) -> int | None:
        found = None
        for slot in self._from(begin):
            if slot > now:
                break
            found = slot
        return found

    def _from(self, after: int) -> Iterator[int]:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class CronCadence(Cadence):
    """The times of a cron line, as croniter reads it."""

    line: str
    timezone: str

    def __str__(self) -> str:
        return f"{self.line} {self.timezone}"

    def _from(self, after: int) -> Iterator[int]:
        from croniter import CroniterBadDateError, croniter

        begin = datetime.fromtimestamp(after / SECOND_MS, ZoneInfo(self.timezone))
        times = croniter(self.line, begin, ret_type=datetime)
        is_fixed = not any(field.startswith("*") for field in self.line.split()[:2])
        while True:
            try:
                moment: datetime = times.get_next()
            except CroniterBadDateError:
                return
            slot = round(moment.timestamp() * SECOND_MS)
            # The second of two equal local times has a fold.
            if slot > after and not (moment.fold and is_fixed):
                yield slot


@dataclass(frozen=True, slots=True)
class PeriodCadence(Cadence):
    """Again and again from `base` on: days and longer by the calendar of UTC, the rest by the clock."""

    base: int
    months: int
    days: int
    clock: int  # in ms

    def __str__(self) -> str:
        clock = f"{self.clock / SECOND_MS:g} s" if self.clock else ""
        named = (f"{self.months} months" * bool(self.months), f"{self.days} d" * bool(self.days))
        return "every " + " ".join(filter(None, (*named, clock)))

    def _from(self, after: int) -> Iterator[int]:
        number = self._number(after)
        while True:
            slot = self._slot(number)
            if slot is None:
                return
            if slot > after:
                yield slot
            number += 1

    def _number(self, after: int) -> int:
        """A slot's number at or before the first one behind that moment."""
        longest = (31 * self.months + self.days) * 86_400 * SECOND_MS + self.clock
        return max(1, (after - self.base) // longest)

    def _slot(self, number: int) -> int | None:
        """None beyond what a calendar has."""
        begin = datetime.fromtimestamp(self.base / SECOND_MS, UTC)
        months = begin.year * 12 + begin.month - 1 + number * self.months
        year, month = divmod(months, 12)
        if year > MAXYEAR:
            return None
        # From the base each time: the 31st comes back after a month that has none.
        day = min(begin.day, calendar.monthrange(year, month + 1)[1])
        try:
            moment = begin.replace(year=year, month=month + 1, day=day)
            moment += timedelta(days=number * self.days)
            return round(moment.timestamp() * SECOND_MS) + number * self.clock
        except OverflowError:
            return None


def cadence_of(plain: Mapping[str, Any], base: int) -> Cadence:
    """The cadence that `to_plain` of a Cron or Period has recorded; a Period counts from `base`.

    Raises InvalidError for what is neither, or has no slots one after another.
    """
    try:
        match plain["kind"]:
            case "Cron":
                return _cron(plain["cron_string"], plain["timezone"])
            case "Period":
                return _period(plain, base)
            case _:
                raise InvalidError(
                    f"there is no schedule {plain['kind']!r}; a newer release may have it."
                )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidError(f"this schedule cannot be read: {error!r}") from error


def _cron(line: str, timezone: str) -> CronCadence:
    from croniter import croniter

    if not croniter.is_valid(line):
        raise InvalidError(f"{line!r} is no cron line.")
    ZoneInfo(timezone)  # raises what is a KeyError or a ValueError
    return CronCadence(f"cron {line} {timezone}", line, timezone)


def _period(plain: Mapping[str, Any], base: int) -> PeriodCadence:
    months = 12 * plain["years"] + plain["months"]
    days = 7 * plain["weeks"] + plain["days"]
    seconds = 3600 * plain["hours"] + 60 * plain["minutes"] + plain["seconds"]
    clock = round(seconds * SECOND_MS)
    if min(months, days, clock) < 0 or not (months or days or clock >= SECOND_MS):
        raise InvalidError("a Period takes a second at least.")
    return PeriodCadence(f"period {months} {days} {clock} from {base}", base, months, days, clock)
