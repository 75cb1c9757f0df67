"""The scaling policy as a specification: what a pool gets when, as time walks on."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from qmodal_autoscaler.policy.decide import decide, serves_alone
from qmodal_autoscaler.policy.start_backoff import backoff
from qmodal_autoscaler.policy.state import (
    ContainerState,
    ContainerView,
    Decision,
    PoolHistory,
    PoolSettings,
    PoolSnapshot,
)

NOW = 1000.0
SETTLED = PoolHistory.empty(NOW - 500)


def container(
    name: str,
    *,
    running: int = 0,
    idle: float = 0.0,
    state: ContainerState = "ready",
    age: float = 400.0,
    now: float = NOW,
    current: bool = True,
    worker: str = "wk-1",
    cordoned: bool = False,
) -> ContainerView:
    return ContainerView(
        id=name,
        state=state,
        running=running,
        idle_seconds=0.0 if running else idle,
        since=now - age,
        version_current=current,
        worker=worker,
        is_cordoned=cordoned,
    )


def boot(age: float) -> ContainerView:
    return container("a", state="starting", age=age)


def fleet(
    *, busy: int = 0, idle: int = 0, starting: int = 0, idle_for: float = 30.0
) -> tuple[ContainerView, ...]:
    return (
        *(container(f"busy-{n}", running=1) for n in range(busy)),
        *(container(f"idle-{n}", idle=idle_for) for n in range(idle)),
        *(container(f"boot-{n}", state="starting", age=0.0) for n in range(starting)),
    )


def pool(
    *containers: ContainerView,
    waiting: int = 0,
    delayed: int = 0,
    service: float | None = 2.0,
    start: float | None = 5.0,
    failures: tuple[float, ...] = (),
) -> PoolSnapshot:
    inflight = waiting + delayed + sum(c.running for c in containers)
    return PoolSnapshot(
        inflight=inflight,
        delayed=delayed,
        submitted=1000 + inflight,
        containers=containers,
        service_time=service,
        start_time=start,
        failures=failures,
    )


def decided(snapshot: PoolSnapshot, history: PoolHistory = SETTLED, **settings: Any) -> Decision:
    return decide(history, snapshot, PoolSettings(**settings), NOW)


# --- up -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("snapshot", "start"),
    [
        pytest.param(pool(), 0, id="nothing to do, nothing there"),
        pytest.param(pool(waiting=1), 1, id="the first input is answered at once"),
        pytest.param(pool(waiting=1, service=0.05, start=6), 1, id="even one that is short"),
        pytest.param(pool(waiting=50, service=None), 50, id="unknown service time: one to one"),
        pytest.param(pool(waiting=50, start=None), 50, id="unknown start time: one to one"),
        pytest.param(pool(waiting=100, service=60, start=20), 100, id="long inputs: one to one"),
        pytest.param(
            pool(waiting=500, service=0.05, start=6), 17, id="short ones share containers"
        ),
        pytest.param(pool(*fleet(idle=5), waiting=5), 0, id="idle containers will take them"),
        pytest.param(pool(*fleet(starting=5), waiting=5), 0, id="starting ones are capacity too"),
        pytest.param(pool(*fleet(starting=3), waiting=5), 2, id="only the rest is started"),
        pytest.param(
            pool(*fleet(busy=4), waiting=1, service=0.05), 0, id="a busy one is soon free"
        ),
        pytest.param(
            pool(*fleet(busy=10), waiting=5, service=3600), 5, id="hour-long inputs free nobody"
        ),
        pytest.param(pool(delayed=9), 0, id="retries that wait ask for nothing"),
        pytest.param(pool(*fleet(idle=1), delayed=9), 0, id="not even beside a container"),
        pytest.param(pool(waiting=2, delayed=9), 2, id="inputs beside retries count alone"),
    ],
)
def test_up(snapshot: PoolSnapshot, start: int) -> None:
    decision = decided(snapshot)
    assert (decision.start, decision.drain) == (start, ())


@pytest.mark.parametrize(
    ("snapshot", "settings", "start"),
    [
        pytest.param(pool(), {"min_containers": 3}, 3, id="the minimum, without any input"),
        pytest.param(pool(), {"buffer_containers": 3}, 0, id="no buffer for a quiet pool"),
        pytest.param(
            pool(*fleet(busy=2)), {"buffer_containers": 3}, 3, id="a buffer above the busy ones"
        ),
        pytest.param(
            pool(*fleet(busy=2, idle=1)), {"buffer_containers": 3}, 2, id="idle ones are buffer"
        ),
        pytest.param(pool(waiting=9), {"max_containers": 4}, 4, id="never above the maximum"),
        pytest.param(
            pool(*fleet(busy=3), waiting=9), {"max_containers": 4}, 1, id="counting what exists"
        ),
        pytest.param(pool(waiting=9, service=60), {"slots": 4}, 3, id="slots share a container"),
        pytest.param(
            pool(container("a", running=4), waiting=4, service=60), {"slots": 4}, 1, id="full slots"
        ),
        pytest.param(
            pool(container("a", running=1), waiting=3, service=60), {"slots": 4}, 0, id="free slots"
        ),
        pytest.param(pool(waiting=100, service=60), {"slots": 100}, 1, id="as many as one may run"),
        pytest.param(pool(waiting=250, service=60), {"slots": 100}, 3, id="more than two may run"),
        pytest.param(
            pool(container("a", running=20), service=60), {"slots": 5}, 3, id="above its target"
        ),
        pytest.param(
            pool(container("a", running=20), waiting=7, service=60),
            {"slots": 5},
            5,
            id="above its target, with more to come",
        ),
        pytest.param(
            pool(container("a", running=8), *fleet(starting=1), service=60),
            {"slots": 5},
            0,
            id="above its target, and another one starts",
        ),
        pytest.param(
            pool(*fleet(busy=3)),
            {"slots": 4, "buffer_containers": 2},
            0,
            id="containers that share few inputs are a buffer",
        ),
        pytest.param(
            pool(waiting=4000, service=0.001, start=0.3),
            {"max_containers": 2},
            2,
            id="a cold map starts all that it may",
        ),
        pytest.param(pool(waiting=60, service=1, start=8), {"alpha": 0}, 60, id="strict"),
        pytest.param(pool(waiting=60, service=1, start=8), {"alpha": 1}, 8, id="soft"),
    ],
)
def test_up_within_settings(snapshot: PoolSnapshot, settings: dict[str, Any], start: int) -> None:
    assert decided(snapshot, **settings).start == start


def test_draining_containers_are_no_capacity_but_count_for_the_maximum() -> None:
    leaving = container("a", running=1, state="draining")
    assert decided(pool(leaving, waiting=1)).start == 1
    assert decided(pool(leaving, waiting=1), max_containers=1).start == 0


def test_arrivals_on_a_ramp_start_more_than_the_backlog_asks_for() -> None:
    calm = pool(*fleet(busy=8, starting=6), waiting=12, service=1.5, start=10)
    before = replace(SETTLED.arrivals, counted=calm.submitted - 160, seen=NOW - 10)
    assert decided(calm).start < decided(calm, replace(SETTLED, arrivals=before)).start


def test_an_input_that_outlasts_the_mean_stops_vouching_for_its_container() -> None:
    stuck = pool(container("a", running=1), waiting=4, service=0.05, start=6)
    history, starts = SETTLED, []
    for second in range(12):
        decision = decide(history, stuck, PoolSettings(), NOW + second)
        history = decision.history
        starts.append(decision.start)
    assert starts[0] == 0
    assert starts[-1] == 4


# --- down ---------------------------------------------------------------------------------------


class Walk:
    """One pool of `ready` containers, looked at again and again; drains happen at once.

    An input runs from the look that says so to the next; the longest idle container gets it, as
    blocked readers of a stream are served.
    """

    def __init__(self, settings: PoolSettings, ready: int) -> None:
        self.settings, self.now, self.history = settings, NOW, SETTLED
        self.ready = {f"c{n}": NOW - 400.0 for n in range(ready)}
        self.idle_since = dict.fromkeys(self.ready, NOW - 400.0)
        self.busy: list[str] = []

    def look(self, at: float, *, busy: int = 0) -> Decision:
        self.now = NOW + at
        self.idle_since |= dict.fromkeys(self.busy, self.now)
        names = sorted(self.ready, key=self.idle_since.__getitem__)
        self.busy = names[:busy]
        views = tuple(
            ContainerView(
                id=name,
                state="ready",
                running=int(order < busy),
                idle_seconds=0.0 if order < busy else self.now - self.idle_since[name],
                since=self.ready[name],
            )
            for order, name in enumerate(names)
        )
        snapshot = pool(*views)
        decision = decide(self.history, snapshot, self.settings, self.now)
        self.history = decision.history
        for name in decision.drain:
            del self.ready[name]
        return decision

    def sizes(self, *looks: tuple[float, int]) -> list[int]:
        sizes = []
        for at, busy in looks:
            self.look(at, busy=busy)
            sizes.append(len(self.ready))
        return sizes


@pytest.mark.parametrize(
    ("settings", "looks", "sizes"),
    [
        pytest.param(
            PoolSettings(scaledown_window=60),
            [(0, 4), (1, 0), (60.5, 0), (61, 0), (61.75, 0)],
            [4, 4, 4, 2, 0],
            id="all go a window after the last completion, half of them at a time",
        ),
        pytest.param(
            PoolSettings(scaledown_window=60, min_containers=3),
            [(0, 4), (1, 0), (61, 0), (90, 0)],
            [4, 4, 3, 3],
            id="down to the minimum",
        ),
        pytest.param(
            PoolSettings(scaledown_window=60),
            [(0, 4), (1, 2), (30, 2), (60, 2), (61, 2), (300, 2)],
            [4, 4, 4, 4, 2, 2],
            id="down to the peak of the window while inputs still run",
        ),
        pytest.param(
            PoolSettings(scaledown_window=60),
            [(0, 4), (1, 0), (40, 4), (41, 0), (61, 0), (100, 0), (101, 0)],
            [4, 4, 4, 4, 4, 4, 2],
            id="a second peak starts the window again",
        ),
        pytest.param(
            PoolSettings(scaledown_window=60),
            [(0, 4), *((t, int(t % 5 == 0)) for t in range(1, 200))],
            [4] * 61 + [2] + [1] * 138,
            id="one input every five seconds keeps one container, whoever serves it",
        ),
        pytest.param(
            PoolSettings(scaledown_window=60, buffer_containers=1),
            [(0, 2), (1, 2), (2, 0), (12, 0), (62, 0), (62.75, 0)],
            [3, 3, 3, 2, 1, 0],
            id="the buffer goes ten seconds after the last completion",
        ),
        pytest.param(
            PoolSettings(scaledown_window=2),
            [(0, 4), (1, 0), (2.9, 0), (3, 0), (3.75, 0)],
            [4, 4, 4, 2, 0],
            id="a short window",
        ),
    ],
)
def test_down(settings: PoolSettings, looks: list[tuple[float, int]], sizes: list[int]) -> None:
    assert Walk(settings, 4).sizes(*looks) == sizes


def test_a_window_is_counted_from_the_completion_and_not_from_the_look() -> None:
    settings = PoolSettings(scaledown_window=60)
    history = decided(pool(container("a", running=1))).history
    looks: list[tuple[float, tuple[str, ...], float | None]] = []
    for at in (5.0, 11.0, 61.0):  # the input was over at 1
        view = container("a", idle=at - 1, age=400 + at, now=NOW + at)
        decision = decide(history, pool(view), settings, NOW + at)
        history = decision.history
        looks.append((at, decision.drain, decision.retry_at))
    assert looks[:2] == [(5, (), NOW + 11), (11, (), NOW + 61)]
    assert looks[2][1] == ("a",)


def test_nothing_is_drained_while_inputs_wait_or_retries_will_come_back() -> None:
    assert decided(pool(*fleet(idle=9), waiting=1)).drain == ()
    assert decided(pool(*fleet(idle=9), delayed=1)).drain == ()
    assert len(decided(pool(*fleet(idle=9))).drain) == 5


@pytest.mark.parametrize(
    ("history", "snapshot", "said"),
    [
        pytest.param(
            PoolHistory.empty(NOW), pool(*fleet(idle=3)), "more is known", id="a new leader"
        ),
        pytest.param(SETTLED, pool(*fleet(busy=1, idle=3), waiting=1), "inputs wait", id="a queue"),
        pytest.param(
            replace(SETTLED, peak=SETTLED.peak.observe(3, ended=NOW, now=NOW, width=60)),
            pool(*fleet(idle=3)),
            "3 containers are kept, 0 would do: so many were busy within 60 s",
            id="the recent peak",
        ),
        pytest.param(
            SETTLED,
            pool(container("a", idle=1, age=1)),
            "were started a short while ago",
            id="one that is fresh",
        ),
    ],
)
def test_a_pool_that_keeps_more_than_it_needs_says_why(
    history: PoolHistory, snapshot: PoolSnapshot, said: str
) -> None:
    decision = decided(snapshot, history)
    assert (decision.drain, decision.why) == ((), "enough")
    assert said in decision.reason


@pytest.mark.parametrize("window", [2.0, 60.0])
def test_a_new_leader_holds_what_it_knows_nothing_about(window: float) -> None:
    history, settings = PoolHistory.empty(NOW), PoolSettings(scaledown_window=window)
    snapshot = pool(container("a", idle=400), waiting=0)
    first = decide(history, snapshot, settings, NOW)
    assert (first.drain, first.retry_at) == ((), NOW + min(window, 10))
    assert decide(first.history, snapshot, settings, NOW + min(window, 10)).drain == ("a",)


def test_a_new_leader_still_scales_up() -> None:
    assert decided(pool(waiting=3), PoolHistory.empty(NOW)).start == 3


@pytest.mark.parametrize(
    ("view", "gone"),
    [
        pytest.param(container("a", age=1.5, idle=0.1), False, id="just ready"),
        pytest.param(container("a", age=3, idle=3), False, id="never used, in its grace"),
        pytest.param(container("a", age=11, idle=11), True, id="never used, after its grace"),
        pytest.param(container("a", age=3, idle=1), True, id="used and idle"),
        pytest.param(container("a", age=3, state="starting"), False, id="starting"),
        pytest.param(container("a", age=30, state="starting"), True, id="starting for nobody"),
        pytest.param(container("a", age=30, state="draining"), False, id="on its way out"),
    ],
)
def test_which_surplus_container_may_go(view: ContainerView, gone: bool) -> None:
    assert decided(pool(view)).drain == (("a",) if gone else ())


@pytest.mark.parametrize(
    ("view", "times", "window", "gone"),
    [
        pytest.param(container("a", age=39, idle=39), (2, 40), 60, False, id="unused, for a start"),
        pytest.param(container("a", age=41, idle=41), (2, 40), 60, True, id="and no longer"),
        pytest.param(container("a", age=21, idle=21), (2, 40), 20, True, id="nor than the window"),
        pytest.param(container("a", age=11, idle=11), (50, 40), 60, True, id="beside long inputs"),
        pytest.param(boot(11), (2, 40), 60, True, id="a start that has just begun"),
        pytest.param(boot(21), (2, 40), 60, False, id="one that is half done"),
        pytest.param(boot(79), (2, 40), 60, False, id="one that is late"),
        pytest.param(boot(81), (2, 40), 60, True, id="one that will not end"),
        pytest.param(boot(11), (2, 5), 60, True, id="one that is cheap"),
    ],
)
def test_what_was_expensive_to_start_is_kept_for_as_long_as_it_took(
    view: ContainerView, times: tuple[float, float], window: float, gone: bool
) -> None:
    service, start = times
    snapshot = pool(view, service=service, start=start)
    decision = decided(snapshot, scaledown_window=window)
    assert decision.drain == (("a",) if gone else ())
    if not gone:
        assert decision.retry_at is not None
        later = decide(
            decision.history, snapshot, PoolSettings(scaledown_window=window), decision.retry_at
        )
        assert later.drain == ("a",)


def test_victims_are_old_code_then_cordoned_then_crowded_then_longest_idle_then_oldest() -> None:
    views = [
        container("lone", idle=90, worker="wk-2"),
        container("short", idle=10),
        container("long", idle=60),
        container("old", idle=60, age=900),
        container("cordoned", idle=10, worker="wk-3", cordoned=True),
        container("code", idle=10, worker="wk-4", current=False),
    ]
    drained = []
    for _ in range(6):
        (victim, *_) = decided(pool(*views)).drain
        drained.append(victim)
        views = [view for view in views if view.id != victim]
    assert drained == ["code", "cordoned", "old", "long", "lone", "short"]


def test_of_starting_containers_those_on_cordoned_boxes_go_first() -> None:
    views = [
        container("new", state="starting", age=20),
        container("cordoned", state="starting", age=40, cordoned=True),
        container("first", state="starting", age=30),
    ]
    for kept, gone in ((2, "cordoned"), (1, "new")):
        (victim, *_) = decided(pool(*views), min_containers=kept).drain
        assert victim == gone
        views = [view for view in views if view.id != victim]


def test_a_lowered_maximum_drains_idle_containers_at_once_and_never_busy_ones() -> None:
    peak = replace(SETTLED, peak=SETTLED.peak.observe(6, ended=NOW, now=NOW, width=60))
    decision = decided(pool(*fleet(busy=4, idle=2), waiting=3), peak, max_containers=2)
    assert decision.drain == ("idle-0", "idle-1")
    assert (decision.desired, decision.retire) == (2, ())
    assert decided(pool(*fleet(busy=6)), peak, max_containers=2).drain == ()


@pytest.mark.parametrize(
    ("snapshot", "settings", "is_served"),
    [
        pytest.param(pool(*fleet(busy=1)), {}, True, id="ready, and everything stays as it is"),
        pytest.param(pool(), {}, False, id="nothing there"),
        pytest.param(pool(*fleet(starting=1), waiting=1), {}, False, id="not ready yet"),
        pytest.param(pool(*fleet(busy=1), waiting=9), {}, False, id="more are started"),
        pytest.param(pool(*fleet(idle=1)), {}, False, id="it is told to end"),
        pytest.param(
            pool(*fleet(busy=1, idle=1)), {"buffer_containers": 1}, False, id="it asks for a buffer"
        ),
        pytest.param(
            pool(*fleet(busy=1), container("b", state="draining")), {}, True, id="others leave"
        ),
    ],
)
def test_when_a_lone_input_changes_nothing(
    snapshot: PoolSnapshot, settings: dict[str, Any], is_served: bool
) -> None:
    decision = decided(snapshot, **settings)
    assert serves_alone(snapshot, decision, PoolSettings(**settings)) == is_served


# --- crash loops --------------------------------------------------------------------------------


def test_the_pause_doubles_up_to_five_minutes_give_or_take_a_fifth() -> None:
    failures: list[float] = []
    now = NOW
    for pause in (1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300):
        failures.append(now)
        until = backoff(tuple(failures)).until
        assert 0.799 * pause <= until - now <= 1.201 * pause
        now = until


def test_containers_that_fail_together_are_one_failed_try() -> None:
    assert backoff((NOW, NOW + 0.1, NOW + 0.2)).until == backoff((NOW,)).until


def test_starts_wait_for_the_pause_and_then_probe_one_at_a_time() -> None:
    until = backoff((NOW - 5, NOW)).until
    snapshot = pool(waiting=20, service=None, failures=(NOW - 5, NOW))
    held = decided(snapshot)
    assert (held.start, held.retry_at, held.give_up) == (0, until, False)
    assert decide(held.history, snapshot, PoolSettings(), until).start == 1
    probing = pool(*fleet(starting=1), waiting=20, service=None, failures=(NOW - 5, NOW))
    assert decide(held.history, probing, PoolSettings(), until).start == 0


@pytest.mark.parametrize(
    ("failures", "ephemeral", "give_up"),
    [
        pytest.param((0, 1), True, False, id="an ephemeral app may fail twice"),
        pytest.param((0, 0, 0), True, True, id="not three times"),
        pytest.param((0, 1, 3), False, False, id="a deployed one may"),
        pytest.param((0, 1, 3, 7, 15), False, False, id="five times within half a minute too"),
        pytest.param((0, 1, 3, 7, 31), False, True, id="not five times over half a minute"),
    ],
)
def test_giving_up(failures: tuple[float, ...], ephemeral: bool, give_up: bool) -> None:
    times = tuple(NOW - failures[-1] + f for f in failures)
    settings = PoolSettings(ephemeral=ephemeral)
    assert decide(SETTLED, pool(waiting=1, failures=times), settings, NOW).give_up is give_up


def test_a_pool_that_holds_its_inputs_never_gives_them_up_and_goes_on_trying() -> None:
    failures = (NOW, NOW, NOW)
    snapshot, settings = pool(waiting=1, failures=failures), PoolSettings(ephemeral=True)
    holding = replace(settings, gives_up=False)
    found, held = (decide(SETTLED, snapshot, each, NOW + 5) for each in (settings, holding))
    assert (found.give_up, held.give_up) == (True, False)
    assert (held.start, held.why, held.retry_at) == (0, "failed_starts", found.retry_at)
    until = backoff(failures, ephemeral=True).until
    assert decide(SETTLED, snapshot, holding, until).start == 1


def test_a_pool_that_gave_up_probes_again_when_its_pause_is_over() -> None:
    failures = (NOW, NOW, NOW)
    snapshot = pool(waiting=1, failures=failures)
    settings = PoolSettings(ephemeral=True)
    assert decide(SETTLED, snapshot, settings, NOW + 5).give_up
    later = decide(SETTLED, snapshot, settings, backoff(failures, ephemeral=True).until)
    assert (later.start, later.give_up) == (1, False)


def test_a_pool_with_a_container_does_not_give_up() -> None:
    failures = (NOW, NOW, NOW)
    settings = PoolSettings(ephemeral=True)
    for others in (fleet(busy=1), fleet(starting=1)):
        snapshot = pool(*others, waiting=1, failures=failures)
        assert not decide(SETTLED, snapshot, settings, NOW).give_up


def test_a_pool_that_always_crashes_starts_few_containers() -> None:
    starts: list[float] = []
    history, now = SETTLED, 0.0
    while now < 300:
        snapshot = pool(waiting=5, service=None, failures=tuple(starts))
        decision = decide(history, snapshot, PoolSettings(max_containers=1), now)
        history = decision.history
        starts += [now] * decision.start
        now += 0.25
    assert sum(at < 60 for at in starts) <= 8
    assert len(starts) <= 12


# --- rollouts -----------------------------------------------------------------------------------


def old(name: str, *, running: int = 0, state: ContainerState = "ready") -> ContainerView:
    return container(name, running=running, idle=30, state=state, current=False)


NEW_IDLE = container("new", idle=3, age=3)
NEW_BOOT = container("boot", state="starting", age=1)


@pytest.mark.parametrize(
    ("containers", "settings", "start", "drain", "retire"),
    [
        pytest.param([old("a")], {}, 0, ["a"], [], id="no demand: idle old ones go"),
        pytest.param(
            [old("a")], {"min_containers": 1}, 1, ["a"], [], id="and the minimum is made anew"
        ),
        pytest.param([old("a", running=1)], {}, 1, [], [], id="a busy one is replaced first"),
        pytest.param([old("a", running=1), NEW_BOOT], {}, 0, [], [], id="and waits for it"),
        pytest.param([old("a", running=1), NEW_IDLE], {}, 0, [], ["a"], id="and then gives way"),
        pytest.param(
            [old("a", running=1), old("b", running=1), NEW_IDLE], {}, 1, [], ["a"], id="one for one"
        ),
        pytest.param(
            [old("a", running=1), old("b"), NEW_IDLE], {}, 0, ["b"], ["a"], id="idle before busy"
        ),
        pytest.param(
            [old("a", running=1)], {"max_containers": 1}, 0, [], ["a"], id="no room for both"
        ),
        pytest.param([old("a", state="starting")], {}, 0, ["a"], [], id="old boots are pointless"),
    ],
)
def test_old_code_gives_way(
    containers: list[ContainerView],
    settings: dict[str, Any],
    start: int,
    drain: list[str],
    retire: list[str],
) -> None:
    decision = decided(pool(*containers), **settings)
    assert (decision.start, list(decision.drain), list(decision.retire)) == (start, drain, retire)


def test_an_old_container_makes_room_when_the_fleet_has_had_none_for_a_while() -> None:
    snapshot = pool(old("a", running=1), old("b", running=1))
    first = decided(snapshot)
    assert (first.start, first.retire, first.retry_at) == (2, (), NOW + 10)
    assert decide(first.history, snapshot, PoolSettings(), NOW + 9).retire == ()
    assert decide(first.history, snapshot, PoolSettings(), NOW + 10).retire == ("a",)


def test_the_old_version_stays_while_the_new_one_fails_to_start() -> None:
    snapshot = pool(old("a", running=1), NEW_IDLE, failures=(NOW - 400,))
    assert decided(snapshot).retire == ()


def test_old_code_gives_way_to_a_deploy_however_young_the_pool_is() -> None:
    decision = decide(PoolHistory.empty(NOW), pool(old("a"), old("b")), PoolSettings(), NOW)
    assert decision.drain == ("a",)
    later = decide(decision.history, pool(old("b")), PoolSettings(), NOW + 1)
    assert later.drain == ("b",)


# --- for any walk -------------------------------------------------------------------------------


def random_pool(chance: random.Random) -> PoolSnapshot:
    states: list[ContainerState] = ["starting", "ready", "ready", "ready", "draining"]
    views = []
    for n in range(chance.randrange(9)):
        state = chance.choice(states)
        views.append(
            container(
                f"c{n}",
                state=state,
                running=0 if state == "starting" else chance.choice([0, 0, 1, 2]),
                idle=chance.uniform(0, 100),
                age=chance.uniform(0, 100),
                current=chance.random() < 0.8,
                worker=chance.choice(["wk-1", "wk-2"]),
            )
        )
    return pool(
        *views,
        waiting=chance.choice([0, 0, 1, 5, 100]),
        delayed=chance.choice([0, 0, 3]),
        service=chance.choice([None, 0.0, 0.05, 2, 600]),
        start=chance.choice([None, 0.0, 5, 60]),
        failures=(NOW - 30, NOW)[: chance.choice([0, 0, 0, 1, 2])],
    )


def check(snapshot: PoolSnapshot, settings: PoolSettings, decision: Decision) -> None:
    live = [c for c in snapshot.containers if c.state != "draining"]
    busy = {c.id for c in snapshot.containers if c.running}
    cap = float("inf") if settings.max_containers is None else settings.max_containers
    in_use = sum(c.running for c in live)
    waiting = snapshot.inflight - snapshot.delayed - sum(c.running for c in snapshot.containers)
    hard = -(-(in_use + waiting) // settings.slots)
    wanted = max(hard, sum(c.running > 0 for c in live)) + settings.buffer_containers
    current = sum(c.version_current for c in live)
    assert min(settings.min_containers, cap) <= decision.desired <= cap
    assert not busy & set(decision.drain)
    assert set(decision.retire) <= busy - {c.id for c in live if c.version_current}
    assert len(set(decision.drain)) == len(decision.drain)
    assert {*decision.drain, *decision.retire} <= {c.id for c in live}
    assert decision.reason
    if decision.start:
        assert len(snapshot.containers) + decision.start <= cap
        assert current + decision.start <= max(wanted, settings.min_containers)


def test_no_walk_leads_out_of_bounds() -> None:
    chance = random.Random(27)
    for _ in range(300):
        settings = PoolSettings(
            min_containers=chance.choice([0, 0, 2]),
            max_containers=chance.choice([None, 2, 6]),
            buffer_containers=chance.choice([0, 2]),
            scaledown_window=chance.choice([2, 60]),
            slots=chance.choice([1, 4]),
        )
        history, now = PoolHistory.empty(NOW), NOW
        for _ in range(20):
            snapshot = random_pool(chance)
            decision = decide(history, snapshot, settings, now)
            check(snapshot, settings, decision)
            assert decision.retry_at is None or decision.retry_at > now
            history = decision.history
            now += chance.expovariate(0.2)


# --- reasons --------------------------------------------------------------------------------------


def test_a_pool_that_needs_more_than_its_maximum_says_so() -> None:
    full = pool(*fleet(busy=2), waiting=9)
    made = decided(full, max_containers=2)
    assert (made.desired, made.start, made.why) == (2, 0, "maximum")
    assert made.reason == "6 containers are needed, max_containers allows 2"
    assert decided(pool(*fleet(busy=2)), max_containers=2).why == "enough"


def test_a_paused_pool_keeps_nothing_and_starts_nothing() -> None:
    containers = fleet(busy=1, idle=1, starting=1)
    paused = replace(pool(*containers, waiting=5), is_paused=True)
    made = decided(paused, min_containers=2, buffer_containers=1)
    assert (made.desired, made.start, made.give_up) == (0, 0, False)
    assert made.drain == ("boot-0",)
    assert set(made.retire) == {"busy-0", "idle-0"}
    assert (made.why, made.reason) == ("paused", "the pool is paused: 5 inputs wait")


def test_a_paused_pool_that_cannot_start_gives_nothing_up() -> None:
    failing = pool(waiting=5, failures=tuple(NOW - n for n in range(20, 0, -1)))
    assert decided(failing, ephemeral=True).give_up
    made = decided(replace(failing, is_paused=True), ephemeral=True)
    assert (made.give_up, made.retry_at) == (False, None)
