"""Containers with many inputs under way that die, are stopped or cut off: each input has one outcome."""

from __future__ import annotations

import os
import secrets
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.spec.options import FunctionOptions, validated_options
from qmodal.transport.operation import ask_one
from qmodal.wire.outcome import Outcome
from tests.support.boxes import SHORT_LEASE, Box, Call, Fleet, Pool
from tests.support.servers import restartable_server
from tests.support.stacks import short_folder
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys

SOURCE = """
import asyncio, os, time

def note(folder, number, what):
    with open(os.path.join(folder, f"{number}.{what}"), "ab") as file:
        file.write(b".")

def go(folder):
    return os.path.exists(os.path.join(folder, "go"))

async def work(folder, number):
    note(folder, number, "start")
    while True:
        if go(folder):
            break
        await asyncio.sleep(0.01)
    note(folder, number, "end")
    return number

def block(folder, number):
    note(folder, number, "start")
    while not go(folder):
        time.sleep(0.01)
    note(folder, number, "end")
    return number

def batch(folder, number):
    for where, each in zip(folder, number):
        note(where, each, "start")
    while not go(folder[0]):
        time.sleep(0.01)
    return number

async def poison(folder, number):
    note(folder, number, "start")
    await asyncio.sleep(0.05)
    if number == 0:
        os.kill(os.getpid(), 9)
    return number

def deaf(folder, number):
    note(folder, number, "start")
    while number == 0 or not go(folder):
        try:
            time.sleep(0.01)
        except BaseException:
            pass
    return number
"""
MANY = 50


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """Where inputs leave marks."""
    made = tmp_path / "marks"
    made.mkdir()
    return made


def side_by_side(most: int = MANY, **options: Any) -> FunctionOptions:
    return validated_options(**options).with_concurrency(most)


def published(fleet: Fleet, folder: Path, name: str, options: FunctionOptions) -> Pool:
    return fleet.publish(folder / "src", SOURCE, {name: options})[name]


def called(fleet: Fleet, pool: Pool, marks: Path, count: int = MANY) -> list[tuple[Call, bytes]]:
    return [fleet.call(pool, str(marks), number) for number in range(count)]


def runs(marks: Path, what: str = "start") -> Counter[int]:
    """How often each input has left that mark."""
    return Counter({int(each.stem): each.stat().st_size for each in marks.glob(f"*.{what}")})


def until(marks: Path, total: int, what: str = "start") -> None:
    wait_until(
        lambda: runs(marks, what).total() >= total, what=f"{total} marks: {what}", seconds=30
    )


def outputs(fleet: Fleet, calls: list[tuple[Call, bytes]]) -> list[int]:
    """How many outcomes each call has."""
    keys = fleet.client.keys
    return [fleet.client.run(ask_one(b"XLEN", keys.outputs(call))) for call, _ in calls]


@pytest.mark.parametrize("name", ["work", "block"])
def test_all_that_a_killed_container_ran_runs_again_and_ends_once(
    fleet: Fleet, box: Box, tmp_path: Path, marks: Path, name: str
) -> None:
    pool = published(fleet, tmp_path, name, side_by_side())
    first = fleet.ready(box, pool)
    calls = called(fleet, pool, marks)
    until(marks, MANY)
    os.kill(first.pid, signal.SIGKILL)
    fleet.ready(box, pool)
    until(marks, 2 * MANY)
    (marks / "go").touch()
    assert [fleet.value(call) for call in calls] == list(range(MANY))
    assert outputs(fleet, calls) == [1] * MANY
    assert set(runs(marks).values()) == {2}
    assert set(runs(marks, "end").values()) == {1}


def test_a_batch_that_was_killed_in_the_middle_runs_again(
    fleet: Fleet, box: Box, tmp_path: Path, marks: Path
) -> None:
    pool = published(fleet, tmp_path, "batch", validated_options().with_batching(8, 1000))
    first = fleet.ready(box, pool)
    calls = called(fleet, pool, marks, 12)
    until(marks, 8)
    os.kill(first.pid, signal.SIGKILL)
    (marks / "go").touch()
    fleet.ready(box, pool)
    assert [fleet.value(call) for call in calls] == list(range(12))
    assert outputs(fleet, calls) == [1] * 12
    assert runs(marks).total() == 20


def test_one_that_kills_its_containers_is_lost_and_takes_no_neighbour_along(
    fleet: Fleet, box: Box, tmp_path: Path, marks: Path
) -> None:
    pool = published(fleet, tmp_path, "poison", side_by_side(4))
    calls = called(fleet, pool, marks, 4)
    for _ in range(3):
        fleet.until(box, fleet.assign(box, pool), "ended")
    fleet.ready(box, pool)
    assert [fleet.value(call) for call in calls[1:]] == [1, 2, 3]
    assert fleet.outcome(calls[0]) == "its container was killed by signal 9"
    assert runs(marks)[0] == 3


def test_what_may_run_only_once_is_lost_with_its_container_if_it_has_started(
    fleet: Fleet, box: Box, tmp_path: Path, marks: Path
) -> None:
    pool = published(fleet, tmp_path, "work", side_by_side(4, delivery="at_most_once"))
    first = fleet.ready(box, pool)
    calls = called(fleet, pool, marks, 6)
    until(marks, 4)
    os.kill(first.pid, signal.SIGKILL)
    (marks / "go").touch()
    fleet.ready(box, pool)
    assert [fleet.outcome(call) for call in calls[:4]] == [
        "its container was killed by signal 9"
    ] * 4
    assert [fleet.value(call) for call in calls[4:]] == [4, 5]
    assert set(runs(marks).values()) == {1}


@pytest.mark.parametrize("name", ["work", "block"])
def test_what_may_run_only_once_does_not_run_again_when_its_container_is_stopped(
    fleet: Fleet, box: Box, tmp_path: Path, marks: Path, name: str
) -> None:
    pool = published(fleet, tmp_path, name, side_by_side(4, delivery="at_most_once"))
    first = fleet.ready(box, pool)
    calls = called(fleet, pool, marks, 4)
    until(marks, 4)
    fleet.client.run(fleet.client.fleet.nudge_stopped(first.container, graceful=False))
    fleet.until(box, first.container, "ended")
    fleet.ready(box, pool)
    assert {fleet.outcome(call) for call in calls} == {"its container was stopped"}
    assert set(runs(marks).values()) == {1}


@pytest.mark.parametrize("name", ["work", "block"])
def test_a_stopped_container_leaves_at_once_and_charges_nobody(
    fleet: Fleet, box: Box, tmp_path: Path, marks: Path, name: str
) -> None:
    pool = published(fleet, tmp_path, name, side_by_side())
    first = fleet.ready(box, pool)
    calls = called(fleet, pool, marks)
    until(marks, MANY)
    fleet.client.run(fleet.client.fleet.nudge_stopped(first.container, graceful=False))
    fleet.until(box, first.container, "ended", seconds=20)
    again = fleet.client.run(ask_one(b"XRANGE", fleet.client.keys.again(pool), b"-", b"+"))
    assert [fields[fields.index(b"d") + 1] for _, fields in again] == [b"0"] * MANY
    (marks / "go").touch()
    fleet.ready(box, pool)
    assert [fleet.value(call) for call in calls] == list(range(MANY))


@pytest.mark.parametrize("name", ["work", "block", "batch"])
def test_a_draining_container_finishes_all_that_it_runs_and_nothing_more(
    fleet: Fleet, box: Box, tmp_path: Path, marks: Path, name: str
) -> None:
    batching = validated_options().with_batching(4, 60_000)
    pool = published(fleet, tmp_path, name, batching if name == "batch" else side_by_side(4))
    first = fleet.ready(box, pool)
    calls = called(fleet, pool, marks, 4)
    until(marks, 4)
    fleet.take_off(box, first.container)
    fleet.until(box, first.container, "draining")
    late = fleet.call(pool, str(marks), 99)
    (marks / "go").touch()
    assert [fleet.value(call) for call in calls] == list(range(4))
    wait_until(lambda: not psutil.pid_exists(first.pid), what="it has left")
    assert 99 not in runs(marks)
    fleet.ready(box, pool)
    if name != "batch":
        assert fleet.value(late) == 99
    assert set(runs(marks).values()) == {1}


def test_a_batch_that_is_being_put_together_does_not_hold_up_a_drain(
    fleet: Fleet, box: Box, tmp_path: Path, marks: Path
) -> None:
    pool = published(fleet, tmp_path, "batch", validated_options().with_batching(4, 60_000))
    first = fleet.ready(box, pool)
    called(fleet, pool, marks, 2)
    wait_until(lambda: fleet.pending(pool).get(first.container) == 2, what="they are claimed")
    fleet.take_off(box, first.container)
    wait_until(lambda: not psutil.pid_exists(first.pid), what="it has left", seconds=20)
    wait_until(lambda: not any(fleet.pending(pool).values()), what="they are given back")
    assert not runs(marks)


def test_a_container_that_cannot_be_interrupted_is_killed_and_only_what_overran_is_settled(
    fleet: Fleet, box: Box, tmp_path: Path, marks: Path
) -> None:
    pool = published(fleet, tmp_path, "deaf", side_by_side(4, timeout=2))
    first = fleet.ready(box, pool)
    overran = fleet.call(pool, str(marks), 0)
    until(marks, 1)
    beside = [fleet.call(pool, str(marks), number) for number in (1, 2)]
    until(marks, 3)
    (marks / "go").touch()
    assert [fleet.value(call) for call in beside] == [1, 2]
    outcome = fleet.outcome(overran, seconds=20)
    assert isinstance(outcome, Outcome)
    assert outcome.kind == "timeout"
    wait_until(lambda: not psutil.pid_exists(first.pid), what="it has ended")


def test_a_cut_connection_loses_nothing_and_runs_nothing_twice(
    fleet: Fleet, box: Box, tmp_path: Path, marks: Path
) -> None:
    pool = published(fleet, tmp_path, "work", side_by_side())
    fleet.ready(box, pool)
    calls: list[tuple[Call, bytes]] = []
    for begin in range(0, MANY, 10):
        calls += [fleet.call(pool, str(marks), number) for number in range(begin, begin + 10)]
        fleet.client.run(ask_one(b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"yes"))
    until(marks, MANY)
    (marks / "go").touch()
    assert [fleet.value(call) for call in calls] == list(range(MANY))
    assert set(runs(marks).values()) == {1}


def test_a_restarted_server_finds_all_inputs_still_running(
    folder: Path, tmp_path: Path, marks: Path
) -> None:
    with restartable_server(folder) as server:
        settings = Settings(
            redis_url=server.url, signing_key=secrets.token_bytes(32), home=tmp_path
        )
        client = Client(settings)
        fleet = Fleet(client)
        with fleet.box() as box:
            pool = published(fleet, tmp_path, "work", side_by_side())
            fleet.ready(box, pool)
            calls = called(fleet, pool, marks)
            until(marks, MANY)
            server.restart()
            (marks / "go").touch()
            assert [fleet.value(call) for call in calls] == list(range(MANY))
            assert set(runs(marks).values()) == {1}
        client.close()


def test_the_inputs_of_a_box_that_stood_still_run_elsewhere_and_end_once(
    fleet: Fleet, tmp_path: Path, marks: Path
) -> None:
    with fleet.box(program=SHORT_LEASE) as box, fleet.box() as other:
        pool = published(fleet, tmp_path, "work", side_by_side(10))
        fleet.ready(box, pool)
        calls = called(fleet, pool, marks, 10)
        until(marks, 10)
        box.process.send_signal(signal.SIGSTOP)
        fleet.ready(other, pool)
        until(marks, 20)  # the other worker has given the box up
        box.process.send_signal(signal.SIGCONT)
        (marks / "go").touch()
        assert [fleet.value(call) for call in calls] == list(range(10))
        assert outputs(fleet, calls) == [1] * 10


@pytest.mark.parametrize("name", ["work", "block"])
def test_inputs_whose_containers_are_interrupted_twice_are_not_lost(
    fleet: Fleet, box: Box, tmp_path: Path, marks: Path, name: str
) -> None:
    pool = published(fleet, tmp_path, name, side_by_side(3))
    calls: list[tuple[Call, bytes]] = []
    for turn in (1, 2):
        container = fleet.ready(box, pool)
        calls = calls or called(fleet, pool, marks, 3)
        until(marks, 3 * turn)
        os.kill(container.pid, signal.SIGINT)
        fleet.until(box, container.container, "ended")
    (marks / "go").touch()
    fleet.ready(box, pool)
    assert [fleet.value(call) for call in calls] == [0, 1, 2]
