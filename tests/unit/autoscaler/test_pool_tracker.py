"""The leader's record of a pool: how it counts the ends of containers, and what it shows the policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from qmodal.spec.options import FunctionOptions
from qmodal.store.fleet import ContainerReport
from qmodal.store.watch.observing import Observation
from qmodal_autoscaler.cluster.catalog import PoolTerms
from qmodal_autoscaler.cluster.nodes import Box, PlacedContainer
from qmodal_autoscaler.cluster.pool_tracker import PoolTracker
from qmodal_autoscaler.cluster.start_failures import failure_kind
from qmodal_autoscaler.policy.state import FailureKind, PoolHistory, PoolSettings, PoolSnapshot
from qmodal_workers.agent.reaper import OUT_OF_MEMORY
from qmodal_workers.spawn.start_plan import too_slow

POOL = "a" * 16
TERMS = PoolTerms(label="f", function="f", app="ap-1", number=2, settings=PoolSettings())
SEEN = Observation(POOL, "ap-1", "f", "f", 1, 5, 0, (), None, None)


def reported(**changes: Any) -> ContainerReport:
    made = ContainerReport(
        container="ta-1",
        pool=POOL,
        app="ap-1",
        function="f",
        label="f",
        number=2,
        state="ready",
        since=0,
    )
    return replace(made, **changes)


@pytest.fixture
def tracker() -> PoolTracker:
    return PoolTracker(PoolHistory.empty(0.0))


def see(
    tracker: PoolTracker, now: float, *, seen: Observation = SEEN, **report: Any
) -> PoolSnapshot:
    placed = PlacedContainer("ta-1", POOL, "wk-1", reported(**report), is_assigned=True)
    return tracker.see(seen, [placed], TERMS, now=now, server_ms=now * 1000)


def test_failed_starts_are_forgotten_by_hand_and_with_a_deploy(tracker: PoolTracker) -> None:
    assert see(tracker, 1.0, state="failed").failures == (1.0,)
    assert see(tracker, 2.0, state="failed").failures == (1.0,)
    assert see(tracker, 3.0, seen=replace(SEEN, reset=7), state="failed").failures == ()
    tracker.failures.append(4.0)
    assert see(tracker, 5.0, seen=replace(SEEN, reset=7), state="failed").failures == (4.0,)


DETAILS: list[tuple[str, FailureKind]] = [
    (too_slow(FunctionOptions(startup_timeout=5)), "timeout"),
    (OUT_OF_MEMORY, "out_of_memory"),
    ("its container used 2 GiB, above its memory limit of 1 GiB; raise `memory=`", "out_of_memory"),
    ("its container was killed by signal 11", "signal"),
    ("its container exited with status 3", "exit"),
    ("Traceback:\n  import torch\nModuleNotFoundError: No module named 'torch'\n", "import_error"),
    ("Traceback:\n  from a import b\nImportError: cannot import name 'b'", "import_error"),
    ("ImportError: lost\n\nDuring that:\n\n  enter()\nValueError: no model", "other"),
    ("ValueError: ImportError: a", "other"),
    ("RuntimeError", "other"),
    ("its template has died", "other"),
    ("", "other"),
]


@pytest.mark.parametrize("is_cordoned", [False, True])
def test_containers_know_whether_their_box_is_cordoned(
    tracker: PoolTracker, is_cordoned: bool
) -> None:
    box = Box("wk-1", assigned={"ta-1": POOL, "ta-2": POOL}, is_cordoned=is_cordoned)
    box.reports["ta-1"] = reported()
    seen = tracker.see(SEEN, box.containers(), TERMS, now=1.0, server_ms=1000.0)
    assert [each.is_cordoned for each in seen.containers] == [is_cordoned] * 2


@pytest.mark.parametrize(("detail", "kind"), DETAILS)
def test_a_failed_start_is_of_one_of_a_few_kinds(
    tracker: PoolTracker, detail: str, kind: FailureKind
) -> None:
    assert failure_kind(detail) == kind
    assert see(tracker, 1.0, state="failed", detail=detail).failed_by == kind


def test_a_container_that_dies_young_is_a_failure_of_its_kind(tracker: PoolTracker) -> None:
    see(tracker, 1.0)
    seen = see(tracker, 2.0, state="ended", detail="its container exited with status 1")
    assert (tracker.early_deaths, seen.failed_by) == ([2.0], "exit")


def test_a_container_that_ends_by_itself_takes_no_more(tracker: PoolTracker) -> None:
    assert [each.state for each in see(tracker, 1.0).containers] == ["ready"]
    assert [each.state for each in see(tracker, 2.0, leaving=True).containers] == ["draining"]
    assert see(tracker, 3.0, leaving=True, state="ended").containers == ()


def test_a_container_that_ends_by_itself_at_once_has_died_young_once(tracker: PoolTracker) -> None:
    see(tracker, 1.0)
    see(tracker, 2.0, leaving=True)
    assert tracker.early_deaths == [2.0]
    see(tracker, 3.0, leaving=True)
    see(tracker, 4.0, leaving=True, state="ended")
    assert tracker.early_deaths == [2.0]


def test_a_container_that_ends_by_itself_after_its_inputs_has_not_died_young(
    tracker: PoolTracker,
) -> None:
    see(tracker, 1.0)
    see(tracker, 2.0, seen=replace(SEEN, inflight=0), leaving=True)
    assert tracker.early_deaths == []
