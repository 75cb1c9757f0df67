"""The sliding peak and minimum are keyed by when a level ended, and the arrival rate forgets."""

from __future__ import annotations

import math
import random

import pytest

from qmodal_autoscaler.policy.window import (
    RATE_HORIZON_SECONDS,
    ArrivalRate,
    LeastWindow,
    PeakWindow,
)

WIDTH = 60.0


def walked(*levels: tuple[float, int]) -> PeakWindow:
    window = PeakWindow()
    for now, level in levels:
        window = window.observe(level, ended=now, now=now, width=WIDTH)
    return window


@pytest.mark.parametrize(
    ("levels", "now", "high"),
    [
        pytest.param([], 0, 0, id="nothing was ever busy"),
        pytest.param([(0, 3)], 1000, 3, id="a level that holds never expires"),
        pytest.param([(0, 3), (100, 1)], 159, 3, id="a level counts for a width after its end"),
        pytest.param([(0, 3), (100, 1)], 160, 1, id="and not a moment longer"),
        pytest.param([(0, 2), (1, 0), (30, 2), (31, 0)], 91, 0, id="an old peak does not survive"),
        pytest.param([(0, 2), (1, 0), (30, 2), (31, 0)], 90, 2, id="a repeated peak counts anew"),
        pytest.param([(0, 5), (10, 2), (20, 4), (30, 0)], 69, 5, id="the highest first"),
        pytest.param(
            [(0, 5), (10, 2), (20, 4), (30, 0)], 70, 4, id="then the next that ended later"
        ),
        pytest.param([(0, 5), (10, 2), (20, 4), (30, 0)], 90, 0, id="then nothing"),
    ],
)
def test_the_peak_is_the_highest_level_of_the_window(
    levels: list[tuple[float, int]], now: float, high: int
) -> None:
    assert walked(*levels).high(now, WIDTH) == high


def test_the_next_fall_is_when_the_peak_falls() -> None:
    window = walked((0, 5), (10, 2), (20, 4), (30, 0))
    assert window.next_fall(30, WIDTH) == 70
    assert window.next_fall(70, WIDTH) == 90
    assert window.next_fall(90, WIDTH) is None


def test_a_level_may_have_ended_before_it_was_seen_to_but_not_before_it_was_last_seen() -> None:
    window = PeakWindow().observe(3, ended=10, now=10, width=WIDTH)
    assert window.observe(0, ended=11, now=12, width=WIDTH).next_fall(12, WIDTH) == 71
    assert window.observe(0, ended=4, now=12, width=WIDTH).next_fall(12, WIDTH) == 70
    assert window.observe(0, ended=99, now=12, width=WIDTH).next_fall(12, WIDTH) == 72


def test_the_window_agrees_with_looking_at_the_whole_history_and_stays_small() -> None:
    walk = random.Random(8)
    window, now = PeakWindow(), 0.0
    spans: list[tuple[float, int]] = []  # when a level ended, and the level
    level = 0
    for _ in range(3000):
        now += walk.expovariate(1.0)
        spans.append((now, level))
        level = walk.randrange(8)
        window = window.observe(level, ended=now, now=now, width=WIDTH)
        recent = [past for ended, past in spans if ended + WIDTH > now]
        assert window.high(now, WIDTH) == max([level, *recent])
        assert len(window.past) < 8


def lowest(*levels: tuple[float, int]) -> LeastWindow:
    window = LeastWindow()
    for now, level in levels:
        window = window.observe(level, now=now, width=WIDTH)
    return window


@pytest.mark.parametrize(
    ("levels", "now", "low"),
    [
        pytest.param([], 0, 0, id="nothing was ever wanted"),
        pytest.param([(0, 3)], 59, 0, id="before the first look there was nothing"),
        pytest.param([(0, 3)], 60, 3, id="a level that holds is the least after a width"),
        pytest.param([(0, 1), (500, 9)], 559, 1, id="a level counts for a width after its end"),
        pytest.param([(0, 1), (500, 9)], 560, 9, id="and not a moment longer"),
        pytest.param([(0, 9), (500, 2)], 500, 2, id="a fall counts at once"),
        pytest.param([(0, 9), (500, 2), (501, 9)], 560, 2, id="a short dip counts for a width"),
        pytest.param([(0, 9), (500, 2), (501, 9)], 561, 9, id="and does not survive it"),
        pytest.param([(0, 2), (500, 4), (520, 9)], 559, 2, id="the lowest first"),
        pytest.param([(0, 2), (500, 4), (520, 9)], 560, 4, id="then the next that ended later"),
    ],
)
def test_the_least_is_the_lowest_level_of_the_window(
    levels: list[tuple[float, int]], now: float, low: int
) -> None:
    assert lowest(*levels).low(now, WIDTH) == low


def test_the_next_rise_is_when_the_least_rises() -> None:
    window = lowest((0, 2), (500, 4), (520, 9))
    assert [window.next_rise(now, WIDTH) for now in (520, 560, 580)] == [560, 580, None]


def test_the_least_agrees_with_looking_at_the_whole_history_and_stays_small() -> None:
    walk = random.Random(9)
    window, now, level = LeastWindow(), 0.0, 0
    spans: list[tuple[float, int]] = []  # when a level ended, and the level
    for _ in range(3000):
        now += walk.expovariate(1.0)
        spans.append((now, level))
        level = walk.randrange(8)
        window = window.observe(level, now=now, width=WIDTH)
        recent = [past for ended, past in spans if ended + WIDTH > now]
        assert window.low(now, WIDTH) == min([level, *recent])
        assert len(window.past) < 8


def test_the_rate_settles_at_the_rate_of_arrivals() -> None:
    rate = ArrivalRate()
    for second in range(100):
        rate = rate.observe(4 * second, float(second))
    assert rate.per_second == pytest.approx(4.0, rel=1e-3)


def test_the_rate_fades_when_nothing_arrives() -> None:
    rate = ArrivalRate(per_second=4.0, counted=400, seen=100.0)
    faded = rate.observe(400, 100.0 + RATE_HORIZON_SECONDS)
    assert faded.per_second == pytest.approx(4.0 / math.e)


def test_the_rate_does_not_depend_on_how_often_it_is_looked_at() -> None:
    start = ArrivalRate().observe(0, 0.0)
    once = start.observe(80, 20.0)
    often = start
    for step in range(1, 21):
        often = often.observe(4 * step, float(step))
    assert often.per_second == pytest.approx(once.per_second)


def test_a_first_look_and_a_counter_that_went_back_say_nothing_about_the_rate() -> None:
    assert ArrivalRate().observe(1000, 5.0).per_second == 0.0
    assert ArrivalRate(per_second=3.0, counted=1000, seen=5.0).observe(2, 6.0).per_second == 0.0


def test_many_arrivals_at_one_moment_are_a_finite_rate() -> None:
    rate = ArrivalRate().observe(0, 5.0).observe(500, 5.0)
    assert rate.per_second == pytest.approx(500 / RATE_HORIZON_SECONDS, rel=1e-3)
