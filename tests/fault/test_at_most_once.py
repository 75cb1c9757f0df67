"""`delivery="at_most_once"`: whatever dies or falls silent, an input that was started runs no more."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from qmodal.spec.options import validated_options
from qmodal.transport.operation import ask_one
from qmodal.wire.outcome import Outcome
from tests.support.boxes import QUICK_LEASE, Box, Call, Fleet, Pool
from tests.support.hardware.cable import cable
from tests.support.servers import TestServer, no_process_left
from tests.support.stacks import is_gone
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys

SOURCE = """
import os, time

def _count(path):
    with open(path, "ab") as file:
        file.write(b".")

def work(path, until):
    _count(path)
    while not os.path.exists(until):
        time.sleep(0.01)
    _count(path + ".ended")
    return "done"

def fail(path):
    _count(path)
    raise ValueError("no luck")

def nap(seconds):
    time.sleep(seconds)
    return seconds
"""
ONCE = {"delivery": "at_most_once"}


@dataclass
class Job:
    """One input, whose runs leave a mark each in a file; user code ends when it is told to."""

    fleet: Fleet
    pool: Pool
    path: Path
    called: tuple[Call, bytes]

    def runs(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def started(self) -> None:
        wait_until(self.runs, what="it runs")

    def tell(self) -> None:
        self.path.with_suffix(".until").touch()

    def ended(self) -> None:
        wait_until(self.path.with_suffix(".ended").exists, what="user code is over")

    def outcome(self, seconds: float = 10) -> Outcome | str:
        return self.fleet.outcome(self.called, seconds)

    def waiting(self) -> int:
        """How many inputs wait in the pool to run again."""
        count: int = self.fleet.client.run(
            ask_one(b"XLEN", self.fleet.client.keys.again(self.pool))
        )
        return count


Begin = Callable[..., Job]


@pytest.fixture
def box(fleet: Fleet) -> Iterator[Box]:
    """One worker; nothing of it is left afterwards."""
    with no_process_left(), fleet.box(program=QUICK_LEASE) as made:
        yield made


@pytest.fixture
def pools(fleet: Fleet, tmp_path: Path) -> dict[str, Pool]:
    options: dict[str, Any] = {
        "work": validated_options(**ONCE),
        "fail": validated_options(**ONCE, retries=1),
        "nap": None,
    }
    return fleet.publish(tmp_path / "src", SOURCE, options)


@pytest.fixture
def begin(fleet: Fleet, pools: dict[str, Pool], tmp_path: Path) -> Begin:
    """Calls `work`."""

    def call(name: str = "runs") -> Job:
        path = tmp_path / name
        called = fleet.call(pools["work"], str(path), f"{path}.until")
        return Job(fleet, pools["work"], path, called)

    return call


def test_an_input_whose_container_is_killed_is_lost_and_others_are_not(
    fleet: Fleet, box: Box, pools: dict[str, Pool], begin: Begin
) -> None:
    report = fleet.ready(box, pools["work"])
    job = begin()
    job.started()
    other = begin("others")
    other.tell()
    os.kill(report.pid, signal.SIGKILL)
    assert job.outcome() == "its container was killed by signal 9"
    fleet.ready(box, pools["work"])
    assert fleet.value(other.called) == "done"
    assert (job.runs(), other.runs()) == (1, 1)


def test_an_input_that_its_container_had_not_started_runs_elsewhere(
    fleet: Fleet, pools: dict[str, Pool], begin: Begin
) -> None:
    with no_process_left(), fleet.box() as box:
        report = fleet.ready(box, pools["work"])
        # It waits for inputs, for seconds, and stands still: one is delivered, and nobody is there to start it.
        about = (b"CLIENT", b"LIST", b"ID", report.connection)
        wait_until(lambda: b"flags=b" in fleet.client.run(ask_one(*about)), what="it waits")
        os.kill(report.pid, signal.SIGSTOP)
        job = begin()
        job.tell()
        wait_until(lambda: fleet.pending(pools["work"]).get(report.container), what="delivered")
        os.kill(report.pid, signal.SIGKILL)
        fleet.ready(box, pools["work"])
        assert fleet.value(job.called) == "done"
        assert job.runs() == 1


def test_an_input_that_ended_and_could_not_be_settled_does_not_run_again(
    fleet: Fleet, pools: dict[str, Pool], begin: Begin, server: TestServer
) -> None:
    with (
        cable(server.url) as wire,
        fleet.box(program=QUICK_LEASE, QMODAL_REDIS_URL=wire.url) as box,
    ):
        report = fleet.ready(box, pools["work"])
        job = begin()
        job.started()
        wire.cut()
        job.tell()
        job.ended()
        process = psutil.Process(report.pid)
        wait_until(lambda: process.status() == "sleeping", what="it waits for the server")
        os.kill(report.pid, signal.SIGKILL)
        wait_until(lambda: is_gone(report.pid), what="it is gone")
        wire.replace()
        assert job.outcome() == "its container was killed by signal 9"
    assert (job.runs(), job.waiting()) == (1, 0)


def test_what_the_user_wants_repeated_is_repeated(
    fleet: Fleet, box: Box, pools: dict[str, Pool], tmp_path: Path
) -> None:
    fleet.ready(box, pools["fail"])
    path = tmp_path / "runs"
    outcome = fleet.outcome(fleet.call(pools["fail"], str(path)))
    assert isinstance(outcome, Outcome)
    assert outcome.kind == "error"
    assert path.stat().st_size == 2


def test_a_silent_server_ends_its_container_in_time_and_no_other(
    fleet: Fleet, box: Box, pools: dict[str, Pool], begin: Begin, server: TestServer
) -> None:
    once, other = fleet.ready(box, pools["work"]), fleet.ready(box, pools["nap"])
    job = begin()
    job.started()
    done = fleet.ready(box, pools["work"])
    short = begin("short")
    short.started()
    with server.frozen():
        short.tell()
        wait_until(lambda: is_gone(once.pid), what="it ends")
        assert not is_gone(done.pid), "user code had ended there"
    assert job.outcome() == "its worker was cut off from the server"
    assert fleet.value(short.called) == "done"
    assert (job.runs(), job.waiting()) == (1, 0)
    assert fleet.until(box, once.container, "ended").detail
    assert fleet.until(box, other.container, "ready").pid == other.pid
    assert set(fleet.workers()) == {box.name}


def test_a_box_that_is_cut_off_ends_it_before_others_take_it_for_lost(
    fleet: Fleet, box: Box, pools: dict[str, Pool], begin: Begin, server: TestServer
) -> None:
    with (
        cable(server.url) as wire,
        fleet.box(program=QUICK_LEASE, QMODAL_REDIS_URL=wire.url) as far,
    ):
        report = fleet.ready(far, pools["work"])
        job = begin()
        job.started()
        wire.cut()
        wait_until(lambda: is_gone(report.pid), what="it ends")
        assert fleet.pending(pools["work"]) == {report.container: 1}, "nobody has swept yet"
        assert job.outcome(seconds=30) == "its worker was lost"
        wire.mend()
        wait_until(lambda: len(fleet.workers()) == 2, what="it comes back", seconds=15)
    assert (job.runs(), job.waiting()) == (1, 0)


def test_a_container_whose_worker_stands_still_ends_itself(
    fleet: Fleet, box: Box, pools: dict[str, Pool], begin: Begin
) -> None:
    with fleet.box(program=QUICK_LEASE) as still:
        report = fleet.ready(still, pools["work"])
        job = begin()
        job.started()
        os.kill(still.process.pid, signal.SIGSTOP)
        wait_until(lambda: is_gone(report.pid), what="it ends")
        assert fleet.pending(pools["work"]) == {report.container: 1}, "nobody has swept yet"
        assert job.outcome(seconds=30) == "its worker was lost"
        os.kill(still.process.pid, signal.SIGCONT)
        wait_until(lambda: len(fleet.workers()) == 2, what="it comes back", seconds=15)
    assert (job.runs(), job.waiting()) == (1, 0)


def test_what_a_lost_box_may_have_started_is_lost_with_it(
    fleet: Fleet, box: Box, pools: dict[str, Pool], begin: Begin
) -> None:
    with fleet.box(program=QUICK_LEASE) as lost:
        fleet.ready(lost, pools["work"])
        job = begin()
        job.started()
        lost.process.kill()
    assert job.outcome(seconds=30) == "its worker was lost"
    assert (job.runs(), job.waiting()) == (1, 0)
    mark = fleet.client.run(ask_one(b"HKEYS", fleet.client.keys.pool(pools["work"])))
    assert not [name for name in mark if name.startswith(b"once:")]


def test_an_input_whose_app_is_stopped_is_lost(
    fleet: Fleet, box: Box, pools: dict[str, Pool], begin: Begin
) -> None:
    report = fleet.ready(box, pools["work"])
    job = begin()
    job.started()
    record = fleet.client.run(fleet.client.apps.record(report.app))
    assert record is not None
    fleet.client.run(fleet.client.apps.stop(record))
    assert job.outcome() == "its container was stopped"
    assert (job.runs(), job.waiting()) == (1, 0)


def test_what_does_not_fit_in_the_grace_of_a_worker_is_lost(
    fleet: Fleet, pools: dict[str, Pool], begin: Begin
) -> None:
    with fleet.box("--grace", "0.5", program=QUICK_LEASE) as box:
        fleet.ready(box, pools["work"])
        job = begin()
        job.started()
        assert box.stop(seconds=15) == 0
    assert job.outcome() == "its worker has stopped"
    assert (job.runs(), job.waiting()) == (1, 0)
