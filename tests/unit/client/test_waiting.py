"""Why a call waits, as far as the state of the fleet says it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from qmodal.client.waiting.said import is_said
from qmodal.client.waiting.why import FleetState, reason_of
from qmodal.store.fleet import ContainerReport, ContainerState, WorkerReport
from qmodal.store.watch.boxes import BoxRecord
from qmodal.store.watch.observing import Observation
from qmodal.store.watch.reasons import Kind, Reason, Reasons

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


WORKER = WorkerReport(
    worker="ta-1",
    host="box-1",
    pid=1,
    cpus=2,
    memory=1,
    max_containers=2,
    python="3.11",
    version="0",
)
USUAL = FleetState(
    server="redis://host", now=5_000, workers=(BoxRecord(report=WORKER),), leader="as-1"
)
OTHERS = (container("q", "ready"), container("q", "starting"))
FULL = Reasons({"p": Reason.of("gpu", gpus="A100", boxes="box-1")._replace(ahead=3)})
LIMIT = Reasons({"p": Reason.of("maximum", most=2)})
CASES: dict[str, tuple[dict[str, Any], Kind, str]] = {
    "all is well, and a container is about to be assigned": ({}, "placing", ""),
    "nobody is there": ({"workers": (), "leader": None}, "fleet", "Start `qmodal up`"),
    "no worker is there": ({"workers": ()}, "workers", "no worker uses redis://host"),
    "no autoscaler is there": ({"leader": None}, "autoscaler", "no autoscaler uses redis://host"),
    "the pool is paused": ({"paused": 1}, "paused", "`qmodal pool resume p`"),
    "all workers are full": ({"containers": OTHERS}, "room", "room: 2 of 2 containers run. Start"),
    "others have left room": ({"containers": OTHERS[:1]}, "placing", ""),
    "what has ended takes no room": (
        {"containers": (OTHERS[0], container("q", "ended"))},
        "placing",
        "",
    ),
    "its containers fail": (
        {"containers": (container("p", "failed", "No module named 'x'."),)},
        "failing",
        "do not start: No module named 'x'. `qmodal app logs`",
    ),
    "a failed one is followed by another": (
        {"containers": (container("p", "failed"), container("p", "starting"))},
        "starting",
        "",
    ),
    "it runs": ({"containers": (container("p", "ready"),)}, "enough", ""),
    "it runs, and nobody scales": (
        {"containers": (container("p", "ready"),), "leader": None},
        "autoscaler",
        "",
    ),
    "it starts, and its worker is gone": (
        {"containers": (container("p", "starting"),), "workers": ()},
        "workers",
        "no worker",
    ),
    "the leader says what it lacks": (
        {"reasons": FULL},
        "gpu",
        "no GPU A100 is free on box-1, and 3 pools are ahead of it. It gets one",
    ),
    "the leader says what further containers lack": (
        {"reasons": FULL, "containers": (container("p", "ready"),)},
        "gpu",
        "",
    ),
    "one starts, and others lack something": (
        {"reasons": FULL, "containers": (container("p", "starting"),)},
        "gpu",
        "",
    ),
    "it may have no more": ({"reasons": LIMIT}, "maximum", ""),
    "all wait for a retry": (
        {"delayed": 1, "containers": (container("p", "ready"),)},
        "retry",
        "",
    ),
    "there is nothing to do": ({"inflight": 0}, "idle", ""),
}


@pytest.mark.parametrize("name", CASES)
def test_the_reason_is_found_and_a_caller_is_told_with_what_to_do(
    name: str,
) -> None:
    changes, kind, text = CASES[name]
    of_pool = {each: value for each, value in changes.items() if each in Observation.__slots__}
    seen = replace(SEEN, **of_pool)
    state = replace(
        USUAL, **{each: value for each, value in changes.items() if each not in of_pool}
    )
    reason = reason_of(seen, state)
    assert reason.kind == kind
    assert text in reason.sentence("p")
    assert is_said(kind, "p", state) == bool(text)


def test_what_somebody_wrote_into_a_report_stays_on_one_line() -> None:
    failed = container("p", "failed", "first\nsecond\x1b[31m")
    reason = reason_of(SEEN, replace(USUAL, containers=(failed,)))
    assert reason.kind == "failing"
    assert reason.sentence("p").isprintable()
