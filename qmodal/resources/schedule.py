"""Cron and Period: schedules of functions, recorded with the app and checked when it is deployed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any

from qmodal.exception import InvalidError

_NAMES = {
    "month": ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    "day of week": ("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
}
_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12))
_ALL = (*_FIELDS, ("day of week", 0, 7))
_PART = re.compile(r"(\*|[0-9a-z]+)(?:-([0-9a-z]+))?(?:/([0-9]+))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule for `@app.function(schedule=...)`."""

    def check(self) -> None:
        """Raise InvalidError if it can never be right."""

    def to_plain(self) -> dict[str, Any]:
        """What the app's version records of it."""
        return {"kind": type(self).__name__}


@dataclass(frozen=True, slots=True, init=False)
class Cron(Schedule):
    """At the times of a cron line of five fields, in that timezone.

    >>> qmodal.Cron("0 6 * * mon-fri", timezone="Europe/Berlin")
    """

    cron_string: str
    timezone: str

    def __init__(self, cron_string: str, timezone: str = "UTC") -> None:
        object.__setattr__(self, "cron_string", cron_string)
        object.__setattr__(self, "timezone", timezone)

    def check(self) -> None:
        """Raise InvalidError for a line that is not five fields or a timezone that is not known."""
        fields = str(self.cron_string).split()
        if len(fields) != 5:
            raise InvalidError(f"Cron({self.cron_string!r}): a cron line has five fields")
        for text, (name, low, high) in zip(fields, _ALL, strict=True):
            for part in text.split(","):
                if not _is_part(part, name, low, high):
                    raise InvalidError(f"Cron({self.cron_string!r}): {part!r} is no {name}")
        _check_zone(self.timezone)

    def to_plain(self) -> dict[str, Any]:
        """What the app's version records of it."""
        return {"kind": "Cron", "cron_string": self.cron_string, "timezone": self.timezone}


def _is_part(part: str, name: str, low: int, high: int) -> bool:
    found = _PART.fullmatch(part)
    if found is None or (found[1] == "*" and found[2]) or found[3] == "0":
        return False
    if found[1] == "*":
        return True
    ends = [_number(text, name, low) for text in (found[1], found[2] or found[1])]
    return low <= ends[0] <= ends[1] <= high


def _number(text: str, name: str, low: int) -> int:
    names = _NAMES.get(name, ())
    if text.lower() in names:
        return names.index(text.lower()) + low
    return int(text) if text.isdigit() else -1


def _check_zone(timezone: str) -> None:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise InvalidError(f"Cron: {timezone!r} is no timezone that this machine knows") from None


@dataclass(frozen=True, slots=True, init=False)
class Period(Schedule):
    """Again and again after that time; days and longer by the calendar.

    >>> qmodal.Period(hours=6)
    """

    years: int
    months: int
    weeks: int
    days: int
    hours: int
    minutes: int
    seconds: float

    def __init__(
        self,
        *,
        years: int = 0,
        months: int = 0,
        weeks: int = 0,
        days: int = 0,
        hours: int = 0,
        minutes: int = 0,
        seconds: float = 0,
    ) -> None:
        given = {"years": years, "months": months, "weeks": weeks, "days": days}
        for name, value in {**given, "hours": hours, "minutes": minutes}.items():
            if type(value) is not int:
                raise TypeError(f"`{name}` must be an int, not {type(value).__name__}")
            object.__setattr__(self, name, value)
        if type(seconds) not in (int, float):
            raise TypeError(f"`seconds` must be a number, not {type(seconds).__name__}")
        object.__setattr__(self, "seconds", seconds)

    def check(self) -> None:
        """Raise InvalidError for a period that does not lead forward."""
        if min(self._values().values()) < 0:
            raise InvalidError("a Period cannot be negative")

    def _values(self) -> dict[str, float]:
        names = ("years", "months", "weeks", "days", "hours", "minutes", "seconds")
        return {name: getattr(self, name) for name in names}

    def to_plain(self) -> dict[str, Any]:
        """What the app's version records of it."""
        return {"kind": "Period", **self._values()}


def check_schedule(schedule: Any, raw: Callable[..., Any]) -> None:
    """Raise InvalidError unless it is a Cron or Period and the function can do without arguments."""
    if schedule is None:
        return
    if not isinstance(schedule, Schedule):
        raise InvalidError(f"`schedule` must be modal.Cron or modal.Period, not {schedule!r}")
    needed = [
        each.name
        for each in signature(raw).parameters.values()
        if each.default is Parameter.empty
        and each.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    ]
    if needed:
        raise InvalidError(
            f"{raw.__qualname__} has a schedule, so it needs to support being called with no "
            f"arguments; {', '.join(needed)} has no default"
        )
