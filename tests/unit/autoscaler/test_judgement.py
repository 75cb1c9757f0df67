"""What follows from one look at a pool: a value that says all of it, and changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from qmodal.store.fleet import ContainerReport
from qmodal.store.watch.observing import ConsumerView, Observation
from qmodal_autoscaler.cluster.catalog import PoolTerms, UnknownTermsError
from qmodal_autoscaler.cluster.nodes import PlacedContainer
from qmodal_autoscaler.control.judgement import (
    PoolDecision,
    Purge,
    decided,
    ended,
    undecided,
)
from qmodal_autoscaler.policy.state import (
    ContainerView,
    Decision,
    PoolHistory,
    PoolSettings,
    PoolSnapshot,
)

POOL = "0" * 32
TERMS = PoolTerms(label="f", function="f", app="ap-1", number=2, settings=PoolSettings())
DECISION = Decision(history=PoolHistory.empty(0.0), desired=1, reason="why")
PURGE = Purge(terms=TERMS, reason="init: no luck", current=2)
SEEN = Observation(POOL, "ap-1", "f", "f", 1, 5, 0, (), None, None)


def placed(container: str, *, worker: str = "wk-1", assigned: bool = True, **report: Any) -> Any:
    about: dict[str, Any] = {
        "container": container,
        "pool": POOL,
        "app": "ap-1",
        "function": "f",
        "label": "f",
        "number": 2,
        "state": "ready",
        "since": 0,
    }
    made = ContainerReport(**about | report) if report.get("state") != "silent" else None
    return PlacedContainer(container, POOL, worker, made, assigned)


def made(*containers: PlacedContainer, **changes: Any) -> PoolDecision:
    views = tuple(
        ContainerView(id=each.container, state="ready", running=0, idle_seconds=0, since=0)
        for each in containers
    )
    snapshot = PoolSnapshot(
        inflight=1,
        delayed=0,
        submitted=5,
        containers=views,
        service_time=None,
        start_time=None,
    )
    about: dict[str, Any] = {
        "pool": POOL,
        "terms": TERMS,
        "observation": SEEN,
        "containers": containers,
        "unstarted": (),
        "snapshot": snapshot,
        "decision": DECISION,
    }
    return PoolDecision(**about | changes)


def names(containers: tuple[PlacedContainer, ...]) -> set[str]:
    return {each.container for each in containers}


@pytest.mark.parametrize(("seen", "is_leaving"), [(SEEN, False), (None, True)])
def test_a_pool_that_nothing_can_be_said_about_keeps_its_containers(
    seen: Observation | None, is_leaving: bool
) -> None:
    error = UnknownTermsError("its app cannot be read")
    judgement = undecided(POOL, seen, error)
    assert (judgement.error, judgement.take_off, judgement.is_leaving) == (error, (), is_leaving)
    assert judgement.label == f"pool {POOL}"


@pytest.mark.parametrize(
    ("seen", "is_leaving", "is_purged"),
    [
        pytest.param(SEEN, False, True, id="inputs wait"),
        pytest.param(replace(SEEN, inflight=0), True, False, id="empty"),
        pytest.param(
            replace(SEEN, inflight=0, consumers=(ConsumerView("ta-1", 0),)),
            False,
            False,
            id="a container still reads it",
        ),
        pytest.param(None, True, False, id="no record"),
    ],
)
def test_a_pool_that_has_ended_loses_its_containers_and_its_inputs(
    seen: Observation | None, is_leaving: bool, is_purged: bool
) -> None:
    terms = replace(TERMS, ended="stopped: the app was stopped")
    judgement = ended(POOL, terms, seen, [placed("ta-1")], current=3)
    assert names(judgement.take_off) == {"ta-1"}
    assert judgement.messages == ("its containers end: stopped: the app was stopped",)
    assert judgement.is_leaving is is_leaving
    expected = Purge(terms=terms, reason=terms.ended, current=3)
    assert judgement.purge == (expected if is_purged else None)
    assert judgement.stopped_app == terms.app
    removed = replace(TERMS, ended="stopped: its function is gone")
    assert ended(POOL, removed, seen, [], current=3).stopped_app == ""


def test_a_decision_says_who_leaves_and_what_is_requested() -> None:
    decision = replace(DECISION, start=3, drain=("ta-1",), retire=("ta-2",))
    containers = placed("ta-1"), placed("ta-2"), placed("ta-3")
    judgement = decided(made(*containers, decision=decision), unfit=frozenset(), purge=PURGE)
    assert names(judgement.take_off) == {"ta-1", "ta-2"}
    assert judgement.messages == ("why (ta-1, ta-2)",)
    assert judgement.purge is None, "the policy has not given up"
    request = judgement.request
    assert request is not None
    assert (request.count, request.have, request.version) == (3, 1, "ap-1:2")


def test_containers_of_versions_that_end_at_once_and_what_is_over_are_taken_off() -> None:
    old, failed = placed("ta-1", number=1), placed("ta-2", state="failed", detail="a\nb: no")
    terms = replace(TERMS, least=2)
    judgement = decided(
        made(old, failed, placed("ta-3"), terms=terms), unfit=frozenset(), purge=None
    )
    assert names(judgement.take_off) == {"ta-1", "ta-2"}
    assert judgement.messages == ("ta-2 did not start: b: no",)


def test_boxes_that_cannot_run_the_pool_are_named_with_those_known_before() -> None:
    unfit = placed("ta-1", state="ended", unfit=True)
    silent = placed("ta-2", worker="wk-2", state="silent")
    decision = replace(DECISION, start=1)
    judgement = decided(
        made(unfit, unstarted=(silent,), decision=decision),
        unfit=frozenset({"wk-9"}),
        purge=None,
    )
    assert judgement.unfit == {"wk-1"}
    assert judgement.unresponsive == {"wk-2"}
    assert judgement.request is not None
    assert judgement.request.unfit == {"wk-1", "wk-9"}
    assert names(judgement.take_off) == {"ta-1", "ta-2"}
    assert "wk-2 does not start ta-2" in judgement.messages


def test_only_what_the_server_does_not_know_is_said_to_it() -> None:
    ready = placed("ta-1")
    first = decided(made(ready), unfit=frozenset(), purge=None)
    assert (first.serves_alone, first.promotes, first.is_leaving) == (True, False, False)
    known = replace(SEEN, is_served=True, delayed=1)
    again = decided(made(ready, observation=known), unfit=frozenset(), purge=None)
    assert (again.serves_alone, again.promotes) == (None, True)


@pytest.mark.parametrize(
    ("minimum", "start", "is_leaving"), [(0, 0, True), (1, 0, False), (0, 1, False)]
)
def test_an_empty_pool_is_put_away_unless_something_is_to_start(
    minimum: int, start: int, is_leaving: bool
) -> None:
    judgement = decided(
        made(
            observation=replace(SEEN, inflight=0),
            terms=replace(TERMS, settings=PoolSettings(min_containers=minimum)),
            decision=replace(DECISION, start=start),
        ),
        unfit=frozenset(),
        purge=None,
    )
    assert judgement.is_leaving is is_leaving


def test_a_pool_that_the_policy_gives_up_is_purged() -> None:
    judgement = decided(
        made(decision=replace(DECISION, give_up=True)), unfit=frozenset(), purge=PURGE
    )
    assert judgement.purge is PURGE
