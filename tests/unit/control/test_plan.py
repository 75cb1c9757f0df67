"""What a control process puts in line, by a clock that the test turns."""

from __future__ import annotations

from dataclasses import replace

import pytest

import qmodal
from qmodal.services.control.chores.book import BOOK, ChoreBook
from qmodal.services.control.schedules.cadence import cadence_of
from qmodal.services.control.schedules.plan import (
    GRACE_MS,
    MOST_ATTEMPTS,
    RESCUE_MS,
    Due,
    Plan,
    overdue,
)
from qmodal.services.control.schedules.table import YOUNG_MS, Schedule
from qmodal.store.history.chores import ChoreRecord
from qmodal.store.objects.schedules import LastRun, Notes

BASE = 1_800_000_000_000
CALL = "fc-00" + "a" * 20


def every(seconds: float, **notes: object) -> Schedule:
    """A schedule that was deployed at BASE."""
    cadence = cadence_of(qmodal.Period(seconds=seconds).to_plain(), BASE)
    made = Schedule(
        app_id="ap-1",
        environment="main",
        app="shop",
        function="f",
        python="3.11",
        deployed=BASE,
        cadence=cadence,
        notes=Notes(),
    )
    return replace(made, notes=Notes(**notes))  # type: ignore[arg-type]


def ran(schedule: Schedule, slot: int) -> Schedule:
    """The same, once that slot was noted."""
    run = LastRun(BASE + slot, BASE + slot, CALL, schedule.cadence.identity)
    return replace(schedule, notes=schedule.notes._replace(run=run))


def slots(found: list[Due]) -> list[int]:
    return [due.slot - BASE for due in found]


def plan_of(schedule: Schedule, now: int = 0) -> Plan:
    plan = Plan()
    plan.take({schedule.key: schedule}, BASE + now)
    return plan


def test_the_first_process_puts_a_slot_in_line_when_it_is_due_and_once() -> None:
    plan = plan_of(every(10))
    assert slots(plan.due(BASE + 9_999, is_first=True)) == []
    (due,) = plan.due(BASE + 10_000, is_first=True)
    plan.sent(due, BASE + 10_000)
    assert plan.due(BASE + 10_001, is_first=True) == []
    assert plan.next_at(BASE + 10_001) == BASE + 20_000
    assert slots(plan.due(BASE + 20_000, is_first=True)) == [20_000]


def test_another_process_waits_whether_the_first_one_does_it() -> None:
    schedule = every(10)
    plan = plan_of(schedule)
    assert plan.due(BASE + 10_000 + GRACE_MS - 1, is_first=False) == []
    assert slots(plan.due(BASE + 10_000 + GRACE_MS, is_first=False)) == [10_000]
    plan.take({schedule.key: ran(schedule, 10_000)}, BASE + 10_000)
    assert plan.due(BASE + 10_000 + GRACE_MS, is_first=False) == []


def test_slots_of_a_moment_are_caught_up_and_of_older_ones_only_the_latest() -> None:
    assert slots(plan_of(every(1)).due(BASE + 2_500, is_first=True)) == [1000, 2000]
    assert slots(plan_of(every(60)).due(BASE + 601_000, is_first=True)) == [600_000]


def test_a_job_that_was_lost_is_put_in_line_again_a_few_times_and_later_each_time() -> None:
    schedule = every(10)
    plan = plan_of(schedule)
    (due,) = plan.due(BASE + 10_000, is_first=True)
    now, waits = BASE + 10_000, []
    plan.sent(due, now)
    for attempt in range(2, MOST_ATTEMPTS + 1):
        began = now
        while not (found := plan.stuck(now)):
            now += 100
        assert (found[0].attempt, found[0].slot) == (attempt, due.slot)
        waits.append(now - began)
        plan.sent(found[0], now)
    assert waits == [RESCUE_MS * 2**n for n in range(len(waits))]
    assert plan.stuck(now + YOUNG_MS) == []


def test_a_slot_that_was_noted_is_not_put_in_line_again() -> None:
    schedule = every(10)
    plan = plan_of(schedule)
    (due,) = plan.due(BASE + 10_000, is_first=True)
    plan.sent(due, BASE + 10_000)
    plan.take({schedule.key: ran(schedule, 10_000)}, BASE + 10_500)
    assert plan.stuck(BASE + 20_000) == []


def test_an_earlier_slot_than_the_last_one_may_still_become_a_call_for_a_while() -> None:
    schedule = ran(every(1), 3000)
    assert schedule.is_over(BASE + 3000, BASE + 3100)
    assert not schedule.is_over(BASE + 2000, BASE + 3100)
    assert schedule.is_over(BASE + 2000, BASE + 3000 + YOUNG_MS)


def test_a_paused_schedule_has_no_slots_and_those_of_the_pause_are_left_out() -> None:
    paused = every(10, is_paused=True, since=BASE + 5000)
    assert plan_of(paused).due(BASE + 60_000, is_first=True) == []
    resumed = every(10, is_paused=False, since=BASE + 65_000)
    assert plan_of(resumed).due(BASE + 66_000, is_first=True) == []
    assert slots(plan_of(resumed).due(BASE + 70_000, is_first=True)) == [70_000]


def cron(line: str, *, deployed: int, run: LastRun | None = None) -> Schedule:
    plain = qmodal.Cron(line).to_plain()
    made = replace(every(10), deployed=deployed, cadence=cadence_of(plain, deployed))
    return replace(made, notes=Notes(run=run))


def test_a_deploy_leaves_a_cron_line_as_it_is_and_begins_another_one_anew() -> None:
    hour, now = 3_600_000, BASE + 10 * 3_600_000
    line, other = "0 * * * *", "30 * * * *"
    last = BASE // hour * hour
    run = LastRun(last, last, CALL, cadence_of(qmodal.Cron(line).to_plain(), 0).identity)
    same = cron(line, deployed=now - 1000, run=run)
    assert same.baseline(now) == last
    assert cron(other, deployed=now - 1000, run=run).baseline(now) == now - 1000


def test_a_note_from_the_future_is_taken_for_none() -> None:
    schedule = ran(every(10), 10**9)
    assert slots(plan_of(schedule).due(BASE + 10_000, is_first=True)) == [10_000]


@pytest.mark.parametrize(("now", "waited"), [(9_000, 0), (10_400, 400), (70_000, 60_000)])
def test_how_long_a_slot_has_waited_is_counted_from_the_first_one(now: int, waited: int) -> None:
    schedule = every(10)
    assert list(overdue({schedule.key: schedule}, BASE + now)) == [(schedule, waited)]


def test_each_chore_is_due_once_in_each_interval_unless_another_process_has_done_it() -> None:
    book, hour = ChoreBook(), 3_600_000
    now = BASE // hour * hour + 5
    assert {name for name, _ in book.due(now)} == BOOK.keys()
    assert list(book.due(now + 1000)) == []
    following = now + 60_000
    done = ChoreRecord(
        name="active-set",
        slot=following // 60_000 * 60_000,
        at=following,
        good=following,
        seconds=0.1,
        did="",
        error="",
        process="ct-2",
    )
    book.take({"active-set": done})
    assert list(book.due(following)) == []
