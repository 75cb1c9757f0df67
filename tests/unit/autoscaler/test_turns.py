"""Whose turn it is when room appears, and which containers make some."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest

from qmodal_autoscaler.control.workqueue import Timers
from qmodal_autoscaler.policy.placement import Rooms
from qmodal_autoscaler.policy.rebalance import Donor, StarvedPool, lend
from qmodal_autoscaler.policy.room import NOTHING, AppShares, ContainerRequest, Totals, WorkerRoom
from qmodal_autoscaler.policy.tenure import remaining_seconds
from qmodal_autoscaler.policy.turns import Turn, TurnQueue


def wants(
    pool: str,
    count: int = 1,
    *,
    have: int = 0,
    app: str = "a",
    weight: float = 1.0,
    is_long: bool = False,
) -> ContainerRequest:
    return ContainerRequest(
        pool=pool, count=count, have=have, app=app, weight=weight, is_long=is_long
    )


def line_of(*requests: ContainerRequest) -> TurnQueue:
    line = TurnQueue()
    for request in requests:
        line.enter(request)
    return line


def turns(line: TurnQueue, count: int, **holding: int) -> list[Turn]:
    """Whose turn it is for so many places; `holding`: how many containers each app has."""
    shares = AppShares(Totals(1000))
    for app, has in holding.items():
        shares.add(app, NOTHING, count=has)
    return line.call(Rooms([WorkerRoom(id="box", free_slots=count)]), shares)


def called(line: TurnQueue, count: int, **holding: int) -> dict[str, int]:
    return {each.request.pool: each.containers for each in turns(line, count, **holding)}


def test_pools_with_one_input_each_get_room_in_the_order_in_which_they_came() -> None:
    line = line_of(*(wants(f"p{number}") for number in range(100)))
    assert list(called(line, 3)) == ["p0", "p1", "p2"]
    assert len(line) == 97
    assert list(called(line, 100)) == [f"p{number}" for number in range(3, 100)]
    assert called(line, 1) == {}


def test_the_pool_with_the_fewest_for_its_weight_comes_first() -> None:
    requests = wants("two", 9, have=2), wants("one", 9, have=1), wants("heavy", 9, have=2, weight=4)
    assert called(line_of(*requests), 5) == {"heavy": 4, "one": 1}
    assert called(line_of(*requests), 1) == {"heavy": 1}


def test_room_is_shared_by_weight() -> None:
    line = line_of(wants("light", 99), wants("heavy", 99, weight=3))
    assert called(line, 40) == {"light": 10, "heavy": 30}


def test_a_pool_with_many_inputs_does_not_wait_behind_all_that_have_one() -> None:
    line = line_of(*(wants(f"p{number}") for number in range(3000)), wants("big", 50, is_long=True))
    assert "big" in called(line, 2)
    line = line_of(wants("big", 50, is_long=True), *(wants(f"p{number}") for number in range(3000)))
    assert called(line, 10).get("big") == 1


def test_apps_share_before_pools() -> None:
    crowd = [wants(f"p{number}", app="crowd") for number in range(100)]
    line = line_of(*crowd, wants("alone", 100, app="other"))
    got = called(line, 20)
    assert got["alone"] == 10
    assert len(got) == 11
    assert called(line_of(*crowd, wants("alone", 9, app="other")), 4, crowd=3)["alone"] == 3


def test_a_pool_that_is_looked_at_again_keeps_its_place_and_one_that_was_served_goes_behind() -> (
    None
):
    line = line_of(wants("first"), wants("second"))
    assert list(called(line, 1)) == ["first"]
    line.enter(wants("first"))
    (turn,) = turns(line, 1)
    assert turn.request.pool == "first"
    line.granted(turn)
    line.enter(wants("first"))
    assert list(called(line, 1)) == ["second"]


def test_what_is_granted_in_part_waits_for_the_rest() -> None:
    line = line_of(wants("pool", 5, have=1))
    (turn,) = turns(line, 2)
    assert line.granted(turn).count == 2
    rest = line.find("pool")
    assert rest is not None
    assert (rest.count, rest.have) == (3, 3)


def test_a_pool_that_leaves_is_not_called_and_costs_nothing() -> None:
    line = line_of(wants("gone"), wants("stays"), wants("forgotten"))
    line.leave("gone")
    line.keep(["stays"])
    assert called(line, 9) == {"stays": 1}
    assert len(line) == 0
    assert line.front(9) == []


def test_the_front_is_who_has_the_fewest() -> None:
    line = line_of(wants("late", have=1), wants("first"), wants("second"))
    assert [each.pool for each in line.front(2)] == ["first", "second"]


def test_ten_pools_that_want_three_times_the_room_share_it_fairly() -> None:
    """Jain's index of what they have over many rounds, in which one container in three changes hands."""
    line = line_of(*(wants(f"p{number}", 10) for number in range(10)))
    have: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for _ in range(100):
        for turn in turns(line, 32 - have.total(), a=have.total()):
            granted = line.granted(turn)
            have[granted.pool] += granted.count
        total.update(have)
        for pool in [pool for pool, count in have.items() if count][::3]:
            have[pool] -= 1
            line.enter(wants(pool, 10 - have[pool], have=have[pool]))
    shares = [total[f"p{number}"] for number in range(10)]
    assert sum(shares) ** 2 / (10 * sum(share**2 for share in shares)) > 0.95


def starved(pool: str = "poor", have: int = 0, unmet: int = 1, **about: Any) -> StarvedPool:
    return StarvedPool(pool=pool, have=have, unmet=unmet, **about)


def donor(
    pool: str = "rich",
    *,
    have: int = 0,
    idle: int = 0,
    busy: int = 0,
    seconds: float = 100.0,
    **about: Any,
) -> Donor:
    return Donor(
        pool=pool,
        have=have or idle + busy,
        idle=[(seconds, f"{pool}-idle-{number}") for number in range(idle)],
        busy=[(seconds, f"{pool}-busy-{number}") for number in range(busy)],
        **about,
    )


@pytest.mark.parametrize(
    ("poor", "rich", "most", "taken"),
    [
        pytest.param([starved()], [donor(idle=2)], 9, 1, id="an idle one of who has more"),
        pytest.param([starved(have=2)], [donor(idle=2)], 9, 0, id="of who has no more"),
        pytest.param([starved()], [donor(idle=2, floor=2)], 9, 0, id="not below the minimum"),
        pytest.param([starved()], [donor(idle=2, seconds=0.5)], 9, 0, id="one between two inputs"),
        pytest.param([starved()], [donor(busy=2)], 9, 1, id="a busy one, after its input"),
        pytest.param([starved()], [donor(busy=1)], 9, 0, id="the only one of a pool"),
        pytest.param([starved(have=1)], [donor(busy=2)], 9, 0, id="one that would come back"),
        pytest.param(
            [starved()], [donor(busy=9, seconds=5.0, start=3.0)], 9, 0, id="one that was dear"
        ),
        pytest.param(
            [starved()], [donor(busy=9, seconds=31.0, start=3.0)], 9, 1, id="one that was worth it"
        ),
        pytest.param(
            [starved()], [donor(busy=9, start=3.0, remaining=2.9)], 9, 0, id="one that is done soon"
        ),
        pytest.param(
            [starved()],
            [donor(busy=9, start=3.0, remaining=3.1)],
            9,
            1,
            id="one that is done later",
        ),
        pytest.param(
            [starved()], [donor(busy=9, service=5.0, remaining=4.0)], 9, 0, id="one last input"
        ),
        pytest.param(
            [starved()], [donor(busy=9, start=5.0, remaining=0.0)], 9, 1, id="nothing is left"
        ),
        pytest.param(
            [starved()],
            [donor(busy=9, start=30.0, service=60.0, remaining=11.0)],
            9,
            1,
            id="nobody waits for so long until another pool is done",
        ),
        pytest.param([starved(unmet=99)], [donor(busy=32)], 16, 16, id="half of them at once"),
        pytest.param(
            [starved(f"p{number}") for number in range(99)],
            [donor(busy=32)],
            99,
            31,
            id="all but one, for pools that have none",
        ),
    ],
)
def test_containers_that_make_room(
    poor: list[StarvedPool], rich: list[Donor], most: int, taken: int
) -> None:
    assert len(lend(poor, rich, leaving=0, most=most)) == taken


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        pytest.param({}, 12.0, id="eight inputs of 3 s, two at once"),
        pytest.param({"slots": 4}, 3.0, id="several at once in each"),
        pytest.param({"waiting": 0}, 0.0, id="nothing waits"),
        pytest.param({"per_second": 0.03}, 12.0, id="hardly any come"),
        pytest.param({"per_second": 0.04}, math.inf, id="others may come meanwhile"),
        pytest.param({"service": None}, math.inf, id="nobody knows how long they take"),
        pytest.param({"containers": 0}, math.inf, id="nothing runs them"),
    ],
)
def test_how_long_a_pool_takes_for_what_waits(changes: dict[str, Any], seconds: float) -> None:
    pool: dict[str, Any] = {
        "waiting": 8,
        "service": 3.0,
        "slots": 1,
        "containers": 2,
        "per_second": 0.0,
    }
    assert remaining_seconds(**pool | changes) == seconds


def test_room_that_is_being_made_is_waited_for() -> None:
    poor = [starved(f"p{number}") for number in range(3)]
    assert len(lend(poor, [donor(busy=9)], leaving=2, most=9)) == 1
    assert lend(poor, [donor(busy=9)], leaving=3, most=9) == []


def test_a_weight_is_a_share_of_what_there_is() -> None:
    rich = donor("rich", busy=8)
    assert len(lend([starved(unmet=9, weight=3.0)], [rich], leaving=0, most=9)) == 6
    assert len(lend([starved(unmet=9)], [donor(busy=8, weight=3.0)], leaving=0, most=9)) == 2


def test_apps_share_before_pools_when_room_is_made() -> None:
    crowd = [donor(f"p{number}", busy=1, app="crowd") for number in range(8)]
    poor = starved("alone", unmet=9, app="other")
    assert len(lend([poor], crowd, leaving=0, most=9)) == 4
    same = starved("one-more", unmet=9, app="crowd")
    assert lend([same], crowd, leaving=0, most=9) == []


def test_a_poorer_pool_of_a_richer_app_keeps_no_other_app_from_its_share() -> None:
    crowd = [donor(f"p{number}", busy=1, app="crowd") for number in range(8)]
    none = starved("first-in-line", unmet=9, app="crowd")
    poor = StarvedPool(pool="alone", have=1, unmet=9, app="other")
    assert len(lend([none, poor], crowd, leaving=0, most=9)) == 3


def test_a_pool_with_nothing_gets_a_place_in_the_end_where_no_other_appears() -> None:
    full = [donor(f"p{number}", busy=1) for number in range(4)]
    assert lend([starved()], full, leaving=0, most=9) == []
    assert len(lend([starved()], full, leaving=0, most=9, is_stalled=True)) == 1
    young = [donor("young", busy=1, seconds=0.5)]
    assert lend([starved()], young, leaving=0, most=9, is_stalled=True) == []


def test_timers_give_the_first_moment_whatever_was_changed() -> None:
    timers = Timers()
    timers.set("late", 9.0)
    timers.set("early", 1.0)
    timers.set("early", 5.0)
    timers.set_first("late", 2.0)
    timers.set("dropped", 0.5)
    timers.drop("dropped")
    assert timers.first() == 5.0
    assert timers.take(4.0) == []
    assert timers.take(9.0) == ["early", "late"]
    assert timers.first() == float("inf")
