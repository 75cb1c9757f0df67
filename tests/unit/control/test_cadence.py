"""When schedules are due, by tables; the changes of clocks are those of 2026."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest

import qmodal
from qmodal.exception import InvalidError
from qmodal.services.control.schedules.cadence import Cadence, cadence_of

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


def ms(text: str) -> int:
    """A moment of UTC, in 2026 unless it names a year: `3-29 01:30`."""
    day, _, clock = text.partition(" ")
    year, month, date = [2026, *map(int, day.split("-"))][-3:]
    hour, minute, second = [*map(int, clock.split(":")), 0][:3]
    return round(datetime(year, month, date, hour, minute, second, tzinfo=UTC).timestamp() * 1000)


def cron(line: str, timezone: str = "UTC") -> Cadence:
    return cadence_of(qmodal.Cron(line, timezone).to_plain(), 0)


def period(base: str, **parts: Any) -> Cadence:
    return cadence_of(qmodal.Period(**parts).to_plain(), ms(base))


def slots(cadence: Cadence, after: str, count: int) -> list[int]:
    """The next so many."""
    found: list[int] = []
    last: int | None = ms(after)
    while last is not None and len(found) < count:
        last = cadence.next(last)
        if last is not None:
            found.append(last)
    return found


@pytest.mark.parametrize(
    ("line", "timezone", "after", "expected"),
    [
        ("*/15 * * * *", "UTC", "1-01 00:00", ["1-01 00:15", "1-01 00:30"]),
        ("0 6 * * mon-fri", BERLIN, "1-02 06:00", ["1-05 05:00", "1-06 05:00"]),
        ("0 0 29 2 *", "UTC", "1-01 00:00", ["2028-2-29 00:00"]),
        # 02:30 does not exist on the 29th of March: as soon as the clock has jumped, and once.
        ("30 2 * * *", BERLIN, "3-28 00:00", ["3-28 01:30", "3-29 01:00", "3-30 00:30"]),
        ("*/30 * * * *", BERLIN, "3-29 00:00", ["3-29 00:30", "3-29 01:00", "3-29 01:30"]),
        ("15 * * * *", BERLIN, "3-29 00:00", ["3-29 00:15", "3-29 01:15", "3-29 02:15"]),
        ("30 2 * * *", NEW_YORK, "3-07 12:00", ["3-08 07:00", "3-09 06:30"]),
        # 01:30 comes twice on the 1st of November: once for a time of day, twice for every half an hour.
        ("30 1 * * *", NEW_YORK, "10-31 12:00", ["11-01 05:30", "11-02 06:30"]),
        ("30 1 * * *", NEW_YORK, "11-01 05:30", ["11-02 06:30"]),
        ("*/30 * * * *", NEW_YORK, "11-01 05:15", ["11-01 05:30", "11-01 06:00", "11-01 06:30"]),
        ("30 * * * *", NEW_YORK, "11-01 05:00", ["11-01 05:30", "11-01 06:30", "11-01 07:30"]),
        ("30 2 * * *", BERLIN, "10-24 12:00", ["10-25 00:30", "10-26 01:30"]),
        # Half an hour, and a midnight that does not exist.
        ("15 2 * * *", "Australia/Lord_Howe", "10-03 00:00", ["10-03 15:30", "10-04 15:15"]),
        ("30 0 * * *", "America/Santiago", "9-05 12:00", ["9-06 04:00", "9-07 03:30"]),
    ],
)
def test_a_cron_line_is_due(line: str, timezone: str, after: str, expected: list[str]) -> None:
    assert slots(cron(line, timezone), after, len(expected)) == [ms(text) for text in expected]


@pytest.mark.parametrize(
    ("parts", "base", "expected"),
    [
        ({"hours": 6}, "3-28 20:00", ["3-29 02:00", "3-29 08:00"]),
        ({"seconds": 1.5}, "1-01 00:00:00", ["1-01 00:00:01.5", "1-01 00:00:03"]),
        ({"days": 1}, "2-27 12:00", ["2-28 12:00", "3-01 12:00"]),
        ({"weeks": 1, "minutes": 30}, "1-01 00:00", ["1-08 00:30", "1-15 01:00"]),
        # The 31st comes back after a month that has none.
        ({"months": 1}, "1-31 08:00", ["2-28 08:00", "3-31 08:00", "4-30 08:00"]),
        ({"years": 1}, "2024-2-29 00:00", ["2025-2-28 00:00", "2026-2-28 00:00"]),
    ],
)
def test_a_period_is_due(parts: dict[str, Any], base: str, expected: list[str]) -> None:
    wanted = [ms(text.partition(".")[0]) + (500 if text.endswith(".5") else 0) for text in expected]
    assert slots(period(base, **parts), base, len(wanted)) == wanted


@pytest.mark.parametrize("parts", [{"seconds": 7}, {"days": 3}, {"months": 5, "hours": 1}])
def test_a_period_goes_on_from_any_moment_as_from_its_base(parts: dict[str, Any]) -> None:
    cadence = period("1-31 00:00", **parts)
    first = slots(cadence, "1-31 00:00", 40)
    for before, following in itertools.pairwise(first):
        assert cadence.next(before) == following
        assert cadence.next(following - 1) == following


def test_what_ends_with_the_calendar_has_no_next_slot() -> None:
    assert period("1-01 00:00", years=9000).next(ms("1-01 00:00")) is None


@pytest.mark.parametrize(
    ("after", "now", "expected"),
    [
        ("1-01 00:00", "1-01 00:59", None),
        ("1-01 00:00", "1-01 01:00", "1-01 01:00"),
        ("1-01 00:00", "1-01 05:30", "1-01 05:00"),
        ("1-01 05:00", "1-01 05:30", None),
        ("2019-1-01 00:00", "1-05 07:10", "1-05 07:00"),
    ],
)
def test_of_missed_slots_the_latest_one_is_due(after: str, now: str, expected: str | None) -> None:
    hourly = cron("0 * * * *")
    found = hourly.latest(ms(after), ms(now))
    assert found == (None if expected is None else ms(expected))


def test_a_rare_slot_that_was_missed_years_ago_is_found() -> None:
    found = cron("0 0 29 2 *").latest(ms("2016-1-01 00:00"), ms("2027-1-01 00:00"))
    assert found == ms("2024-2-29 00:00")


def test_what_was_missed_for_a_moment_is_caught_up_and_what_was_for_long_is_not() -> None:
    every = period("1-01 00:00", seconds=1)
    base = ms("1-01 00:00")
    assert every.missed(base, base + 2100, within=3000) == [base + 1000, base + 2000]
    assert every.missed(base, base + 9100, within=3000) == [base + n * 1000 for n in (7, 8, 9)]
    daily = cron("0 6 * * *")
    assert daily.missed(base, ms("1-09 12:00"), within=3000) == [ms("1-09 06:00")]


def test_equal_cadences_have_the_same_identity_and_others_another() -> None:
    assert cron("0 6 * * *", BERLIN).identity == cron("0 6 * * *", BERLIN).identity
    assert cron("0 6 * * *", BERLIN).identity != cron("0 6 * * *").identity
    assert period("1-01 00:00", hours=1).identity == period("1-01 00:00", minutes=60).identity
    assert period("1-01 00:00", hours=1).identity != period("1-02 00:00", hours=1).identity


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"kind": "Moon"},
        {"kind": "Cron", "cron_string": "x", "timezone": "UTC"},
        {"kind": "Cron", "cron_string": "* * * * *", "timezone": "Mars"},
        qmodal.Period().to_plain(),
        {**qmodal.Period(days=1).to_plain(), "days": "many"},
    ],
)
def test_what_is_no_schedule_is_an_error(plain: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        cadence_of(plain, 0)
