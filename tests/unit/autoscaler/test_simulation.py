"""The shipped policy on the simulated traces: the limits that its cost, its waits and its moves keep."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest

from qmodal_autoscaler.simulator.costs import (
    Figures,
    figures,
    geometric_mean,
    jain,
    shares,
    sizes,
)
from qmodal_autoscaler.simulator.engine import Simulation
from qmodal_autoscaler.simulator.oracle import oracle_seconds
from qmodal_autoscaler.simulator.policies import SHIPPED, UNTAUGHT, settings_of, simulate
from qmodal_autoscaler.simulator.record import Record
from qmodal_autoscaler.simulator.shipped import ShippedPolicy
from qmodal_autoscaler.simulator.traces.trace import Arrival, Faults, Trace
from qmodal_autoscaler.simulator.traces.workloads import LIMITED, workload

COSTS = dict.fromkeys(LIMITED, 2.5) | {"sparse": 8.5, "map-500": 6.0}


@cache
def ran(name: str) -> Record:
    return simulate(workload(name))


@cache
def measured(name: str) -> Figures:
    return figures(ran(name))


def strict(name: str) -> Figures:
    """One slot for each input in flight, at once."""
    trace = workload(name)
    return figures(Simulation(trace, ShippedPolicy(settings_of(trace, alpha=0.0))).run())


# --- what it costs ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LIMITED)
def test_each_trace_costs_no_more_than_its_limit(name: str) -> None:
    assert measured(name).cost <= COSTS[name]
    assert measured(name).unfinished == 0


def test_the_traces_together_cost_twice_as_much_as_with_an_oracle() -> None:
    assert geometric_mean(measured(name).cost for name in LIMITED) <= 2.1


@pytest.mark.parametrize("name", ["map-500", "map-100", "on-off", "steps"])
def test_inputs_wait_hardly_longer_than_with_a_container_for_each(name: str) -> None:
    more = 3.0 if name == "steps" else 0.5
    limit = strict(name).wait_p95
    assert measured(name).wait_p95 <= max(1.15 * limit, limit + more)


@pytest.mark.parametrize("name", ["steady", "steps"])
def test_the_most_containers_are_hardly_more_than_the_most_that_are_needed(name: str) -> None:
    assert measured(name).overshoot <= 1.15


@pytest.mark.parametrize("name", ["steady", "fast", "steps"])
def test_a_pool_under_steady_load_changes_its_direction_twice_a_window_at_most(name: str) -> None:
    assert measured(name).turns <= 2


@pytest.mark.parametrize("name", LIMITED)
def test_everything_is_gone_a_second_after_the_window_at_the_latest(name: str) -> None:
    record = ran(name)
    last = max(each.began for each in record.inputs.values())
    longest = max(each.service for each in record.trace.arrivals)
    assert max(each.ended for each in record.lives) <= last + longest + record.trace.window + 1.1


@pytest.mark.parametrize("name", ["steady", "on-off", "fast", "steps"])
def test_no_busy_container_is_ever_chosen_to_end(name: str) -> None:
    assert measured(name).busy_victims == 0


def test_a_pool_that_is_new_costs_little_more() -> None:
    for name in ("map-100", "after-burst"):
        assert figures(simulate(workload(name), UNTAUGHT)).cost <= 1.2 * measured(name).cost


# --- harder traces ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "seconds", "cost", "wait"),
    [
        pytest.param("heavy-tail", 600, 1.6, 5, id="a heavy tail"),
        pytest.param("diurnal", 600, 2.5, 5, id="a swinging rate"),
        pytest.param("azure", 200, 6.0, 3.1, id="two hundred functions"),
        pytest.param("parameters", 60, 6.0, 1.1, id="hundreds of parameter sets"),
        pytest.param("slots", 120, 2.5, 5.5, id="several inputs at once"),
        pytest.param("deaths", 300, 1.5, 6, id="containers that die"),
        pytest.param("stale", 300, 2.0, 6, id="stale and unreadable figures"),
        pytest.param("flap", 300, 1.6, 6, id="changes of leader"),
    ],
)
def test_harder_traces_stay_within_reason(
    name: str, seconds: float, cost: float, wait: float
) -> None:
    made = figures(simulate(workload(name).until(seconds)))
    assert made.unfinished == 0
    assert made.busy_victims == 0
    assert made.cost <= cost
    assert made.wait_p95 <= wait


def test_nothing_starts_or_ends_while_nothing_can_be_read() -> None:
    trace = workload("stale").until(200)
    moves = simulate(trace).moves
    for begin, end in trace.faults.blackouts:
        assert not [at for at, _ in moves if begin + trace.faults.lag < at < end]


def test_a_new_leader_ends_nothing_before_it_knows_the_pool() -> None:
    trace = replace(workload("flap").until(200), faults=Faults(leader_losses=(100.0,)))
    assert not [at for at, change in simulate(trace).moves if change < 0 and 100 < at < 116]


def test_inputs_of_containers_that_die_run_again() -> None:
    record = simulate(workload("deaths").until(300))
    assert record.deaths > 5
    assert len(record.inputs) == len(record.trace.arrivals)


@pytest.mark.parametrize("start", [0.05, 1.0, 10.0])
def test_a_cold_map_of_short_inputs_starts_both_containers_that_it_may(start: float) -> None:
    arrivals = tuple(Arrival(number / 40_000, 0.001) for number in range(4000))
    trace = Trace(name="short", arrivals=arrivals, start_time=start)
    settings = replace(settings_of(trace), max_containers=2)
    record = Simulation(trace, ShippedPolicy(settings)).run()
    assert [each.began < 0.2 for each in record.lives] == [True, True]


# --- scarce room --------------------------------------------------------------------------------


def ten_pools(*, late: float) -> Record:
    """Ten pools of two apps that want six containers each where there is room for twenty; half come later."""
    arrivals = [
        Arrival(late * (pool % 2) + number / 2, 3.0, f"app{pool // 5}/f{pool}")
        for pool in range(10)
        for number in range(240)
    ]
    arrivals.sort(key=lambda each: each.at)
    return simulate(Trace(name="ten", arrivals=tuple(arrivals), start_time=1.0, room=20))


@pytest.mark.parametrize("late", [0.0, 30.0])
def test_ten_pools_that_want_three_times_the_room_get_the_same(late: float) -> None:
    record = ten_pools(late=late)
    minute = shares(record.lives, late + 30, late + 90)
    assert len(minute) == 10
    assert jain(list(minute.values())) >= 0.95
    apps = [
        sum(minute[pool] for pool in minute if pool.startswith(app)) for app in ("app0", "app1")
    ]
    assert jain(apps) >= 0.99
    assert max(level for _, level in sizes(record)) == 20
    assert record.busy_victims == 0


def test_pools_that_are_nearly_done_are_not_started_again_for_the_rest() -> None:
    record = simulate(workload("jobs"))
    made = figures(record)
    assert made.unfinished == 0
    assert len(record.lives) <= 1.4 * 60  # 1.65 without the times of inputs
    assert made.wait_p95 <= 45  # 48 s


# --- the simulator itself -----------------------------------------------------------------------


def test_a_run_repeats_itself() -> None:
    trace = workload("deaths").until(60)
    first, second = simulate(trace), simulate(workload("deaths").until(60))
    assert (first.lives, first.inputs) == (second.lives, second.inputs)


@pytest.mark.parametrize(
    ("arrivals", "slots", "seconds"),
    [
        pytest.param([(0, 2)], 1, 5 + 2, id="one boot, one input"),
        pytest.param([(0, 2), (4, 2)], 1, 5 + 2 + 2 + 2, id="a short gap is waited for"),
        pytest.param([(0, 2), (60, 2)], 1, 2 * (5 + 2), id="a long gap is not"),
        pytest.param([(0, 2), (0, 2)], 1, 2 * (5 + 2), id="two at once"),
        pytest.param([(0, 2), (0, 2), (1, 2)], 2, 7 + 5 + 2, id="two slots"),
        pytest.param([(0, 9), (0, 2), (3, 2)], 1, 5 + 9 + 5 + 5, id="the top one has the gap"),
    ],
)
def test_the_oracle(arrivals: list[tuple[float, float]], slots: int, seconds: float) -> None:
    inputs = tuple(Arrival(at, service) for at, service in arrivals)
    trace = Trace(name="t", arrivals=inputs, start_time=5, slots=slots)
    assert math.isclose(oracle_seconds(trace), seconds)


@pytest.mark.parametrize(
    "policy", ["naive", "naive-recent", "keda", "knative", "ray-serve", SHIPPED]
)
def test_every_policy_serves_every_input_and_comes_to_an_end(policy: str) -> None:
    trace = workload("on-off").until(90)
    record = simulate(trace, policy)
    assert figures(record).unfinished == 0
    assert sizes(record)[-1][1] == 0
    assert max(each.ended for each in record.lives) < 4000
