"""Cron and Period: schedules of functions, recorded with the app and checked when it is deployed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from inspect import Parameter, signature
from typing import Any

from qmodal.exception import InvalidError

# What croniter draws, by chance or by the name of a machine.
_CHANCE = re.compile(r"[HR]", re.IGNORECASE)


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
        """Raise InvalidError for a line that is no cron line or never comes true, or a timezone that is not known."""
        from croniter import CroniterBadDateError, CroniterError, croniter

        line = str(self.cron_string)
        fields = line.split()
        if len(fields) != 5:
            raise InvalidError(f"Cron({line!r}): a cron line has five fields")
        if _CHANCE.match(line) or any(map(_CHANCE.match, fields)):
            raise InvalidError(f"Cron({line!r}): the times of a line are the same for everybody")
        _check_zone(self.timezone)
        try:
            croniter(line, datetime.now(UTC)).get_next()
        except CroniterBadDateError:
            raise InvalidError(f"Cron({line!r}): no such day ever comes") from None
        except (CroniterError, ValueError) as error:
            raise InvalidError(f"Cron({line!r}) is no cron line: {error}") from None

    def to_plain(self) -> dict[str, Any]:
        """What the app's version records of it."""
        return {"kind": "Cron", "cron_string": self.cron_string, "timezone": self.timezone}


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
        """Raise InvalidError for a period that does not lead forward by a second at least."""
        values = self._values()
        if min(values.values()) < 0:
            raise InvalidError("a Period cannot be negative")
        if not (any(values[name] for name in values if name != "seconds") or self.seconds >= 1):
            raise InvalidError(f"a Period takes a second at least, not {self.seconds} s")

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
