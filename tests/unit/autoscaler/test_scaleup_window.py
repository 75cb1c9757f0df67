"""What a scale-up window holds back, for how long, and what it never holds back."""

from __future__ import annotations

from typing import Any

import pytest

from qmodal_autoscaler.policy.decide import decide
from qmodal_autoscaler.policy.state import (
    ContainerView,
    Decision,
    PoolHistory,
    PoolSettings,
    PoolSnapshot,
)

NOW = 1000.0
WINDOW = 20.0


def snapshot(inputs: int, live: int, now: float) -> PoolSnapshot:
    """So many containers, each of which runs an input if there is one for it; inputs of unknown length."""
    containers = tuple(
        ContainerView(
            id=f"c{number}",
            state="ready",
            running=int(number < inputs),
            idle_seconds=0.0,
            since=now - 100,
            worker="wk-1",
        )
        for number in range(live)
    )
    return PoolSnapshot(
        inflight=inputs,
        delayed=0,
        submitted=1000,
        containers=containers,
        service_time=None,
        start_time=None,
    )


def walked(
    looks: list[tuple[float, int]], *, live: int = 0, lost: int = 0, **settings: Any
) -> tuple[list[int], Decision]:
    """The size after each look (seconds, inputs), and the last decision; `lost`: containers that are gone at that one."""
    terms = PoolSettings(**{"scaleup_window": WINDOW, "scaledown_window": 600.0, **settings})
    history, sizes, decision = PoolHistory.empty(NOW), [], None
    for number, (at, inputs) in enumerate(looks):
        live -= lost if number == len(looks) - 1 else 0
        decision = decide(history, snapshot(inputs, live, NOW + at), terms, NOW + at)
        history, live = decision.history, live + decision.start
        sizes.append(live)
    assert decision is not None
    return sizes, decision


@pytest.mark.parametrize(
    ("looks", "settings", "sizes"),
    [
        pytest.param([(0, 9)], {"scaleup_window": 0}, [9], id="no window: at once"),
        pytest.param([(0, 9), (19, 9), (20, 9)], {}, [1, 1, 9], id="the first one, then the rest"),
        pytest.param([(0, 1), (500, 9), (519, 9), (520, 9)], {}, [1, 1, 1, 9], id="a longer queue"),
        pytest.param(
            [(0, 1), (500, 9), (510, 1), (519, 9), (538, 9), (539, 9)],
            {},
            [1, 1, 1, 1, 1, 9],
            id="a dip starts the window anew",
        ),
        pytest.param(
            [(0, 1), (500, 9), (505, 1), (530, 1)], {}, [1, 1, 1, 1], id="a peak that has passed"
        ),
        pytest.param(
            [(0, 1), (500, 4), (510, 9), (520, 9), (530, 9)],
            {},
            [1, 1, 1, 4, 9],
            id="a ramp is followed a window later",
        ),
        pytest.param([(0, 0)], {"min_containers": 3}, [3], id="the minimum does not wait"),
        pytest.param([(0, 9)], {"min_containers": 3}, [3], id="what is above it does"),
        pytest.param(
            [(0, 1), (1, 1)], {"buffer_containers": 2}, [2, 3], id="the buffer does not wait"
        ),
        pytest.param(
            [(0, 9), (20, 9)], {"max_containers": 4}, [1, 4], id="never above the maximum"
        ),
    ],
)
def test_a_pool_grows_to_what_it_needed_throughout_the_window(
    looks: list[tuple[float, int]], settings: dict[str, Any], sizes: list[int]
) -> None:
    assert walked(looks, **settings)[0] == sizes


def test_a_pool_that_had_containers_before_is_not_made_smaller_by_it() -> None:
    sizes, decision = walked([(0, 12)], live=10)
    assert (sizes, decision.desired, decision.drain) == ([10], 10, ())


def test_lost_containers_are_replaced_at_once() -> None:
    assert walked([(0, 10), (30, 10), (31, 10)], live=10, lost=4)[0] == [10, 10, 10]


def test_a_pool_that_waits_for_its_window_says_so_and_is_looked_at_when_it_is_over() -> None:
    _, decision = walked([(0, 1), (500, 9), (510, 9)])
    assert (decision.why, decision.desired, decision.retry_at) == ("scaleup_window", 1, NOW + 520)
    assert (
        decision.reason == "9 containers are needed: it stays at 1 until that has been so for 20 s"
    )
