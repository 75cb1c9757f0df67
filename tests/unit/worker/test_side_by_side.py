"""Several inputs in a container: what there is room for, what stands in the table, and what is to stop."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from qmodal.exception import InvalidError
from qmodal.spec.options import FunctionOptions
from qmodal_workers.agent import side_by_side
from qmodal_workers.agent.containers import PendingInterrupt
from qmodal_workers.container.concurrent.claimer import grouped
from qmodal_workers.container.concurrent.group import Group
from qmodal_workers.container.concurrent.room import Room, Rows
from qmodal_workers.container.concurrent.running import Running
from qmodal_workers.container.process.output_marks import OutputMarks
from qmodal_workers.container.run.batcher import BatchedFunction
from qmodal_workers.ipc.running_table import MOST_ROWS, RunningInput
from qmodal_workers.ipc.shared_record import (
    CANCELLED,
    STOPPED,
    TIMEOUT,
    ContainerStatus,
    SharedRecord,
)
from tests.support.attempts import attempt


def options(**changes: Any) -> FunctionOptions:
    return FunctionOptions(**changes)


@pytest.mark.parametrize(
    ("given", "batch", "most", "target"),
    [
        (options(max_inputs=20, target_inputs=5), 1, 20, 5),
        (options(max_inputs=20, target_inputs=20), 1, 20, 20),
        (options(max_batch_size=8), 8, 1, 1),
        (options(max_inputs=4, target_inputs=2, max_batch_size=8), 8, 4, 2),
        (options(max_inputs=1000, target_inputs=1000, max_batch_size=1000), 1000, 4, 4),
        (options(max_inputs=9, target_inputs=9, single_use_containers=True), 1, 1, 1),
    ],
)
def test_room_is_for_max_inputs_within_the_table(
    given: FunctionOptions, batch: int, most: int, target: int
) -> None:
    room = Room(given)
    assert (room.batch, room.most, room.target) == (batch, most, target)
    assert room.free == most
    assert room.most * room.batch <= MOST_ROWS


def test_room_is_free_again_when_a_group_has_ended() -> None:
    room = Room(options(max_inputs=3, target_inputs=3))
    room.take(3)
    assert room.wait(0) == 0
    room.ended(1)
    assert room.wait(0) == 1
    room.give_back(2)
    assert room.wait(0) == 3


def test_while_the_server_is_behind_no_more_is_claimed_than_there_are_rows_for() -> None:
    room = Room(options(max_inputs=3, target_inputs=3))
    for _ in range(4):
        room.take(1)
        room.ended(1)
    assert room.free == 2
    for _ in range(2):
        room.take(1)
        room.ended(1)
    assert room.free == 0
    room.written(6)
    assert room.free == 3


@pytest.mark.parametrize(
    ("given", "seconds", "free"),
    [
        (options(max_batch_size=8), 0.005, 1),
        (options(max_batch_size=8), 0.05, 0),
        (options(max_batch_size=8, single_use_containers=True), 0.005, 0),
        (options(max_batch_size=8, delivery="at_most_once"), 0.005, 0),
        (options(max_batch_size=8, max_inputs=2, target_inputs=2), 0.005, 1),
        (options(max_inputs=2, target_inputs=2), 0.005, 1),
        (options(max_inputs=100, target_inputs=100), 0.005, 25),
        (options(max_inputs=100, target_inputs=100), 0.1, 11),
        (options(max_inputs=100, target_inputs=100), 0.3, 0),
        (options(max_inputs=100, target_inputs=50), 0.005, 0),
    ],
)
def test_behind_short_groups_there_is_room_for_those_that_start_soon(
    given: FunctionOptions, seconds: float, free: int
) -> None:
    now = [0.0]
    room = Room(given, clock=lambda: now[0])
    assert room.free == room.most
    for _ in range(30):
        room.take(1)
        room.ended(1, seconds=seconds)
        room.written(1)
    room.take(room.most)
    assert (room.free, room.is_full) == (free, True)
    room.rest()
    assert room.free == 0
    now[0] = 1.0
    assert room.free == free


def test_a_closed_room_has_no_place() -> None:
    room = Room(options(max_inputs=3, target_inputs=3))
    room.close()
    assert room.wait(60) == 0


def test_rows_are_used_again_lowest_first() -> None:
    rows = Rows()
    assert rows.take(3) == [0, 1, 2]
    rows.give_back([1])
    rows.give_back([0])
    assert rows.take(3) == [0, 1, 3]
    assert rows.used == 4


def test_groups_hold_inputs_of_one_method_in_order() -> None:
    attempts = [attempt(n, method="even" if n % 2 == 0 else "odd") for n in range(7)]
    groups = [[each.claimed.entry for each in group] for group in grouped(attempts, 3)]
    assert groups == [["0-0", "2-0", "4-0"], ["6-0"], ["1-0", "3-0", "5-0"]]


@pytest.mark.parametrize(
    ("orders", "stops", "why"),
    [
        ([(0, CANCELLED)], [False], 0),
        ([(0, CANCELLED), (1, CANCELLED)], [False, True], CANCELLED),
        ([(0, CANCELLED), (0, CANCELLED)], [False, False], 0),
        ([(0, TIMEOUT), (1, TIMEOUT)], [True, False], TIMEOUT),
        ([(0, CANCELLED), (1, STOPPED), (1, CANCELLED)], [False, True, False], STOPPED),
    ],
)
def test_a_batch_stops_once_nothing_of_it_is_wanted_or_all_of_it_is_to(
    orders: list[tuple[int, int]], stops: list[bool], why: int
) -> None:
    group = Group([attempt(0), attempt(1)], [0, 1])
    assert [group.order(*each) for each in orders] == stops
    assert group.slot.why == why


def test_a_worker_reads_what_runs_longest_first_and_what_has_ended_last() -> None:
    record = SharedRecord.create()
    running = Running(record, OutputMarks(record.output, [sys.stdout, sys.stderr]))
    first, second, third = [running.start([attempt(n)]) for n in range(3)]
    running.finish(first)
    running.publish(9, 4)
    status = record.read()
    assert status is not None
    assert [each.entry for each in status.inputs] == ["1-0", "2-0", "0-0"]
    assert (status.serial, status.running, status.completed) == (second.slot.serial, 3, 4)
    assert [entry for _, entry in status.held] == ["1-0", "2-0", "0-0"]
    assert running.settled(first.rows) == [(1, "0-0")]
    running.finish(second)
    running.finish(third)
    running.settled([*second.rows, *third.rows])
    running.publish(9, 6)
    status = record.read()
    assert status is not None
    assert (status.state, status.serial, status.inputs) == ("idle", 0, ())


def test_an_order_is_for_the_input_that_was_in_the_row_only() -> None:
    record = SharedRecord.create()
    running = Running(record, OutputMarks(record.output, [sys.stdout, sys.stderr]))
    first = running.start([attempt(0)])
    record.table.interrupt(0, first.slot.serial, CANCELLED)
    assert record.table.order(0) == CANCELLED
    running.finish(first)
    running.settled(first.rows)
    running.start([attempt(1)])
    assert record.table.order(0) == 0


def status_of(*inputs: RunningInput, timeout: int = 10) -> ContainerStatus:
    return ContainerStatus(state="busy", serial=1, timeout=timeout, inputs=inputs)


def row(number: int, *, serial: int = 0, started: int = 1) -> RunningInput:
    return RunningInput(number, serial or number + 1, started, 1, f"{number}-0")


def pending(why: int, since: float) -> PendingInterrupt:
    return PendingInterrupt(1, why, since)


def test_what_is_overdue_is_interrupted_once_and_what_has_ended_never() -> None:
    status = status_of(row(0), row(1, started=8), row(2, started=0), row(3))
    interrupts = {(3, 4): pending(TIMEOUT, 0.0)}
    assert side_by_side.overdue(status, interrupts, 13) == [row(0)]
    assert side_by_side.overdue(status_of(row(0), timeout=0), {}, 13) == []


def test_interrupts_of_what_has_ended_are_forgotten() -> None:
    interrupts = {
        (0, 1): pending(TIMEOUT, 0.0),
        (1, 9): pending(TIMEOUT, 0.0),
        (2, 3): pending(CANCELLED, 0.0),
    }
    status = status_of(row(0), row(1), row(2, started=0))
    assert side_by_side.still_pending(status, interrupts).keys() == {(0, 1)}


BATCH = (row(0, serial=7), row(1, serial=7))


@pytest.mark.parametrize(
    ("inputs", "interrupts", "resisting"),
    [
        ((row(0), row(1)), {(0, 1): pending(TIMEOUT, 1.0)}, [0]),
        ((row(0),), {(0, 1): pending(TIMEOUT, 9.0)}, []),
        ((row(0, started=0),), {(0, 1): pending(TIMEOUT, 1.0)}, []),
        (BATCH, {(0, 7): pending(CANCELLED, 1.0)}, []),
        (BATCH, {(n, 7): pending(CANCELLED, 1.0) for n in (0, 1)}, [0, 1]),
    ],
)
def test_a_container_is_ended_for_what_runs_on_but_not_for_some_of_a_batch(
    inputs: tuple[RunningInput, ...], interrupts: Any, resisting: list[int]
) -> None:
    found = side_by_side.resisting(status_of(*inputs), interrupts, since=5.0)
    assert [each.row for each in found] == resisting


def test_only_what_ran_out_of_time_is_settled_for_a_container() -> None:
    interrupts = {(0, 1): pending(TIMEOUT, 1.0), (1, 2): pending(CANCELLED, 1.0)}
    (found,) = side_by_side.overrun(status_of(row(0), row(1)), interrupts, [row(0), row(1)])
    assert found.held == ((1, "0-0"),)
    assert (found.serial, found.running, found.inputs) == (1, 1, ())


def two(x: int, y: int) -> None: ...


@pytest.mark.parametrize(
    ("inputs", "lists"),
    [
        (
            [((1, 2), {}), ((3,), {"y": 4}), ((), {"y": 6, "x": 5})],
            {"x": [1, 3, 5], "y": [2, 4, 6]},
        ),
        ([((1, 2), {})], {"x": [1], "y": [2]}),
    ],
)
def test_a_batch_is_a_list_for_each_parameter(inputs: Any, lists: Any) -> None:
    assert BatchedFunction(two).lists(inputs) == lists


@pytest.mark.parametrize("arguments", [((1,), {}), ((1, 2, 3), {}), ((1, 2), {"z": 3})])
def test_arguments_that_are_not_the_functions_are_a_type_error(arguments: Any) -> None:
    with pytest.raises(TypeError):
        BatchedFunction(two).lists([((1, 2), {}), arguments])


@pytest.mark.parametrize("returned", [(1, 2), [1], [1, 2, 3], None, "ab"])
def test_a_batch_has_to_return_a_list_of_as_many(returned: Any) -> None:
    batched = BatchedFunction(two)
    with pytest.raises(InvalidError, match="Output of batched function two must be a list"):
        batched.parted(returned, 2)


def anything(*args: int, **kwargs: int) -> None: ...


def test_a_batched_function_may_take_what_it_does_not_name() -> None:
    call: Callable[[Any], Any] = BatchedFunction(anything).lists
    with pytest.raises(TypeError):
        call([((1,), {}), ((), {"x": 2})])
