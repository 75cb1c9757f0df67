"""Why a call waits, as far as the state of the fleet says it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from qmodal.client.waiting import Situation, cause_of
from qmodal.store.fleet import ContainerReport, ContainerState
from qmodal.store.watch.observing import Observation

SEEN = Observation(
    pool="p",
    app="ap",
    function="f",
    label="f",
    inflight=1,
    submitted=1,
    delayed=0,
    consumers=(),
    service_time=None,
    start_time=None,
)


def container(pool: str, state: ContainerState, detail: str = "") -> ContainerReport:
    return ContainerReport(
        container="ta-1",
        pool=pool,
        app="ap",
        function="f",
        label="f",
        number=1,
        state=state,
        since=0,
        detail=detail,
    )


USUAL = Situation(server="redis://host", workers=1, room=2, leader="as-1", containers=(), seen=SEEN)
OTHERS = (container("q", "ready"), container("q", "starting"))
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "all is well, and a container is about to be assigned": ({}, ""),
    "nobody is there": ({"workers": 0, "leader": None, "room": 0}, "Start `qmodal up`"),
    "no worker is there": ({"workers": 0, "room": 0}, "no worker uses redis://host"),
    "no autoscaler is there": ({"leader": None}, "no autoscaler uses redis://host"),
    "the pool is paused": ({"seen": replace(SEEN, paused=1)}, "`qmodal pool resume p`"),
    "all workers are full": ({"containers": OTHERS}, "as 2 of 2 containers run"),
    "others have left room": ({"containers": OTHERS[:1]}, ""),
    "what has ended takes no room": ({"containers": (OTHERS[0], container("q", "ended"))}, ""),
    "its containers fail": (
        {"containers": (container("p", "failed", "No module named 'x'."),)},
        "do not start: No module named 'x'. `qmodal app logs`",
    ),
    "a failed one is followed by another": (
        {"containers": (container("p", "failed"), container("p", "starting"))},
        "",
    ),
    "it runs": ({"containers": (container("p", "ready"),), "leader": None}, ""),
    "it starts, and its worker is gone": (
        {"containers": (container("p", "starting"),), "workers": 0},
        "no worker",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_cause_is_named_with_what_to_do(name: str) -> None:
    changes, text = CASES[name]
    cause = cause_of(replace(USUAL, **changes))
    assert text in cause.text if text and cause is not None else cause is None
    assert bool(text) == (cause is not None)


def test_what_somebody_wrote_into_a_report_stays_on_one_line() -> None:
    failed = container("p", "failed", "first\nsecond\x1b[31m")
    cause = cause_of(replace(USUAL, containers=(failed,)))
    assert cause is not None
    assert cause.text.isprintable()
