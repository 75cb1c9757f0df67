"""The text beside a progress bar, and the rate that the time left is reckoned by."""

from __future__ import annotations

from typing import Any

import pytest

from qmodal.functions.map.inputs import InputReader
from qmodal.output.cell_bar import html_of
from qmodal.output.pace import Figures, Pace, clock


def figures(**given: Any) -> Figures:
    at_first: dict[str, Any] = {"name": "f", "done": 0, "total": 100, "failed": 0, "running": 4}
    return Figures(**{**at_first, "rate": 0.0, "took": 1.0, **given})


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "0/100, 4 running"),
        ({"done": 20, "rate": 34.4}, "20/100, 4 running, 34/s, 0:02 left"),
        ({"done": 20, "rate": 1.26}, "20/100, 4 running, 1.3/s, 1:03 left"),
        ({"done": 20, "rate": 0.1}, "20/100, 4 running, 6/min, 13:20 left"),
        ({"done": 20, "rate": 0.0}, "20/100, 4 running"),
        ({"done": 20, "rate": 20, "failed": 3}, "20/100, 4 running, 3 failed, 20/s, 0:04 left"),
        ({"done": 20, "rate": 20, "total": None}, "20 done, 4 running, 20/s"),
        ({"done": 120, "rate": 20}, "120/100, 4 running, 20/s, 0:00 left"),
        ({"done": 100, "rate": 20, "took": 5, "is_over": True}, "100/100, 20/s, 0:05"),
        ({"done": 7, "rate": 7, "is_over": True}, "7/100, 7.0/s, stopped after 0:01"),
        (
            {"done": 7, "rate": 7, "total": None, "is_over": True},
            "7 done, 7.0/s, stopped after 0:01",
        ),
    ],
)
def test_the_text_says_how_many_and_how_long(given: dict[str, Any], text: str) -> None:
    assert figures(**given).text == text


def test_times_are_short() -> None:
    assert [clock(each) for each in (0.4, 59.6, 725, 3725)] == ["0:00", "1:00", "12:05", "1:02:05"]


def test_the_rate_is_that_of_the_last_seconds() -> None:
    pace = Pace()
    assert pace.at(0.0, 0) == 0.0
    assert pace.at(10.0, 100) == 10.0
    assert pace.at(20.0, 100) == 5.0
    assert pace.at(30.0, 400) == 15.0


def test_long_inputs_have_a_rate_between_two_of_them() -> None:
    pace = Pace()
    rates = [pace.at(float(moment), 4 * (moment // 60)) for moment in range(0, 601, 5)]
    assert max(rates[13:]) < 0.1
    assert min(rates[13:]) > 0.03


def test_a_bar_without_a_total_has_no_value_and_names_are_escaped() -> None:
    assert 'value="20" max="100"' in html_of(figures(done=20))
    assert "value=" not in html_of(figures(total=None))
    assert 'value="1" max="1"' in html_of(figures(total=None, is_over=True))
    assert "<b>&lt;f&gt;</b>" in html_of(figures(name="<f>"))


class Careless:
    def __len__(self) -> int:
        raise RuntimeError

    def __iter__(self) -> Any:
        return iter(())


@pytest.mark.parametrize(
    ("iterables", "total"),
    [
        ((range(7),), 7),
        ((range(7), [1, 2]), 2),
        ((range(7), iter([1])), None),
        ((bytearray(3),), 3),
        ((Careless(),), None),
    ],
)
def test_a_total_is_known_where_all_inputs_have_a_length(
    iterables: tuple[Any, ...], total: int | None
) -> None:
    assert InputReader(iterables).total == total
