"""What holds for the scaling policy whatever a pool looks like: properties, over generated pools."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given, settings as runs, strategies as st

from qmodal_autoscaler.cluster.catalog import UnknownTermsError
from qmodal_autoscaler.control.judgement import undecided
from qmodal_autoscaler.policy.decide import decide
from qmodal_autoscaler.policy.state import (
    ContainerState,
    ContainerView,
    Decision,
    PoolHistory,
    PoolSettings,
    PoolSnapshot,
)

NOW = 1000.0
few = runs(max_examples=60, derandomize=True, deadline=None, database=None)
# Where what matters is a rare state of a pool.
many = runs(few, max_examples=250)

seconds = st.floats(0, 200)
times = st.one_of(st.none(), st.sampled_from([0.0, 0.001, 0.05, 2.0, 600.0]))


@st.composite
def containers(draw: st.DrawFn, *, current: bool = False) -> tuple[ContainerView, ...]:
    views = []
    for number in range(draw(st.sampled_from([0, 1, 2, 4, 8]))):
        state: ContainerState = draw(
            st.sampled_from(["starting", "ready", "ready", "ready", "draining"])
        )
        running = 0 if state == "starting" else draw(st.sampled_from([0, 0, 1, 1, 5]))
        age = draw(seconds)
        views.append(
            ContainerView(
                id=f"c{number}",
                state=state,
                running=running,
                idle_seconds=0.0 if running else min(age, draw(seconds)),
                since=NOW - age,
                version_current=current or draw(st.booleans()),
                worker=draw(st.sampled_from(["wk-1", "wk-2"])),
            )
        )
    return tuple(views)


@st.composite
def pools(draw: st.DrawFn, *, current: bool = False) -> PoolSnapshot:
    views = draw(containers(current=current))
    delayed = draw(st.sampled_from([0, 0, 0, 3]))
    inflight = (
        draw(st.sampled_from([0, 0, 0, 1, 2, 7, 60]))
        + delayed
        + sum(each.running for each in views)
    )
    return PoolSnapshot(
        inflight=inflight,
        delayed=delayed,
        submitted=draw(st.sampled_from([1000, 1000, 1500])),
        containers=views,
        service_time=draw(times),
        start_time=draw(times),
        failures=(NOW - 30, NOW - 1)[: draw(st.sampled_from([0, 0, 0, 1, 2]))],
    )


@st.composite
def terms(draw: st.DrawFn) -> PoolSettings:
    least = draw(st.sampled_from([0, 1, 4]))
    return PoolSettings(
        min_containers=least,
        max_containers=draw(st.one_of(st.none(), st.sampled_from([max(1, least), least + 3, 12]))),
        buffer_containers=draw(st.integers(0, 3)),
        scaledown_window=draw(st.sampled_from([2.0, 60.0, 600.0])),
        slots=draw(st.sampled_from([1, 4])),
        alpha=draw(st.sampled_from([0.0, 0.25, 1.0])),
        scaleup_window=draw(st.sampled_from([0.0, 0.0, 30.0])),
    )


@st.composite
def pasts(draw: st.DrawFn) -> PoolHistory:
    """The history that a few looks at other states of the pool have left."""
    age = draw(st.sampled_from([5.0, 100.0, 300.0]))
    history = PoolHistory.empty(NOW - age)
    for at in sorted(draw(st.lists(st.floats(0, 0.7), max_size=3))):
        look = NOW - age + at * age
        history = decide(history, draw(pools()), PoolSettings(), look).history
    return history


def size_after(snapshot: PoolSnapshot, decision: Decision) -> int:
    live = sum(each.state != "draining" for each in snapshot.containers)
    return live + decision.start - len(decision.drain) - len(decision.retire)


def occupied(snapshot: PoolSnapshot, settings: PoolSettings) -> int:
    """The containers that the inputs in flight can fill, those of draining ones aside."""
    leaving = sum(each.running for each in snapshot.containers if each.state == "draining")
    return math.ceil((snapshot.inflight - snapshot.delayed - leaving) / settings.slots)


@few
@given(pasts(), pools(), terms())
def test_no_more_are_started_than_the_inputs_in_flight_fill_and_the_buffer(
    history: PoolHistory, snapshot: PoolSnapshot, settings: PoolSettings
) -> None:
    decision = decide(history, snapshot, settings, NOW)
    current = sum(c.version_current for c in snapshot.containers if c.state != "draining")
    most = max(occupied(snapshot, settings) + settings.buffer_containers, settings.min_containers)
    if decision.start:
        assert current + decision.start <= most


@few
@given(pasts(), pools(), terms())
def test_the_maximum_is_never_passed(
    history: PoolHistory, snapshot: PoolSnapshot, settings: PoolSettings
) -> None:
    decision = decide(history, snapshot, settings, NOW)
    cap = math.inf if settings.max_containers is None else settings.max_containers
    assert decision.desired <= cap
    if decision.start:
        assert len(snapshot.containers) + decision.start <= cap


@many
@given(pasts(), pools(current=True), terms())
def test_nothing_leads_below_the_minimum(
    history: PoolHistory, snapshot: PoolSnapshot, settings: PoolSettings
) -> None:
    decision = decide(history, snapshot, settings, NOW)
    least = settings.capped(settings.min_containers)
    assert decision.desired >= least
    if decision.drain:
        assert size_after(snapshot, decision) >= least
    healthy = replace(snapshot, failures=())
    alive = sum(each.state == "draining" for each in snapshot.containers)
    if settings.max_containers is None or alive == 0:
        assert size_after(healthy, decide(history, healthy, settings, NOW)) >= least


@few
@given(pasts(), pools(), terms())
def test_no_victim_is_busy(
    history: PoolHistory, snapshot: PoolSnapshot, settings: PoolSettings
) -> None:
    decision = decide(history, snapshot, settings, NOW)
    busy = {each.id for each in snapshot.containers if each.running}
    outdated = {each.id for each in snapshot.containers if not each.version_current}
    assert not busy & set(decision.drain)
    # What runs on old code takes nothing new, and ends what it has.
    assert set(decision.retire) <= busy & outdated


@few
@given(pasts(), pools(), terms(), st.integers(1, 40))
def test_a_longer_queue_never_means_fewer_containers(
    history: PoolHistory, snapshot: PoolSnapshot, settings: PoolSettings, more: int
) -> None:
    shorter = decide(history, snapshot, settings, NOW)
    longer = replace(
        snapshot, inflight=snapshot.inflight + more, submitted=snapshot.submitted + more
    )
    longer_decision = decide(history, longer, settings, NOW)
    assert longer_decision.start >= shorter.start
    assert size_after(longer, longer_decision) >= size_after(snapshot, shorter)
    assert longer_decision.desired >= shorter.desired


@few
@given(pasts(), pools(), terms())
def test_a_decision_depends_on_nothing_but_its_arguments_and_says_why(
    history: PoolHistory, snapshot: PoolSnapshot, settings: PoolSettings
) -> None:
    decision = decide(history, snapshot, settings, NOW)
    assert decision == decide(history, snapshot, settings, NOW)
    assert decision.reason
    assert decision.retry_at is None or decision.retry_at > NOW


@few
@given(pasts(), pools(current=True), terms(), st.floats(0.01, 300))
def test_nothing_changes_by_itself_before_the_moment_that_is_announced(
    history: PoolHistory, snapshot: PoolSnapshot, settings: PoolSettings, later: float
) -> None:
    """So a pool in which nothing happens need not be looked at before it."""
    snapshot = replace(
        snapshot, inflight=sum(each.running for each in snapshot.containers), delayed=0
    )
    snapshot = replace(snapshot, containers=tuple(aged(each) for each in snapshot.containers))
    first = decide(history, snapshot, settings, NOW)
    if first.start or first.drain or (first.retry_at or math.inf) <= NOW + later:
        return
    then = replace(
        snapshot,
        containers=tuple(
            replace(each, idle_seconds=0.0 if each.running else each.idle_seconds + later)
            for each in snapshot.containers
        ),
    )
    second = decide(first.history, then, settings, NOW + later)
    assert (second.start, second.drain) == (0, ())


def aged(view: ContainerView) -> ContainerView:
    return replace(view, running=min(view.running, 1))


def test_nothing_is_decided_without_an_observation() -> None:
    judgement = undecided("pool", None, UnknownTermsError("the server has no record of it"))
    assert (judgement.made, judgement.request, judgement.take_off) == (None, None, ())
