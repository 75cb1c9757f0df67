"""Containers and workers that die, and a server that stalls: nothing is lost, nothing runs on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from qmodal.config import Settings
from qmodal.spec.options import validated_options
from qmodal.store.watch.sweeper import Sweeper
from qmodal.transport.operation import ask_one
from tests.support.boxes import PROGRAM, QUICK_LEASE, Box, Call, Fleet, Pool
from tests.support.servers import TestServer, no_process_left
from tests.support.stacks import is_gone
from tests.support.stage import autoscaling
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys

SOURCE = """
import ctypes, os, select, struct, time

IMPORTED_BY = os.getpid()

def template():
    return IMPORTED_BY

def quick(path):
    pass

def hog(path):
    # Unlike CDLL, PyDLL keeps the GIL: no other thread of the container runs until the pipe can be read.
    pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    awaited = ctypes.create_string_buffer(struct.pack("ihh", pipe, select.POLLIN, 0))
    ctypes.PyDLL(None).poll(awaited, 1, 4000)
    os.close(pipe)

def work(path):
    (hog if path else quick)(path)

def sleepy(seconds, mark):
    open(mark, "w").close()
    time.sleep(seconds)
    return seconds

def second_time(mark):
    if os.path.exists(mark):
        return True
    sleepy(600, mark)

def add(x, y):
    return x + y

def suicide():
    os.kill(os.getpid(), 9)

def leave(status):
    os._exit(status)

def hold():
    if os.fork() == 0:
        time.sleep(600)
    os.kill(os.getpid(), 9)
"""

NAMES = [f"f{number}" for number in range(24)]
TURNS = "import time\n" + "".join(
    f"def {name}(x):\n    time.sleep(0.05)\n    return x\n" for name in NAMES
)
# Behind its grace it waits half a second for a server that says nothing.
IMPATIENT = "from qmodal_workers.agent import session; session.RECLAIM_SECONDS = 0.5; " + PROGRAM


def deliveries_lost(fleet: Fleet, pool: str) -> list[int]:
    entries = fleet.client.run(ask_one(b"XRANGE", fleet.client.keys.again(pool), b"-", b"+"))
    return [int(fields[fields.index(b"d") + 1]) for _, fields in entries]


def test_a_killed_containers_input_is_back_at_once_and_charged(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"sleepy": None})
    pool = pools["sleepy"]
    report = fleet.ready(box, pool)
    fleet.begin(pool, 600)
    os.kill(report.pid, signal.SIGKILL)
    # Long before the lease of its box could end.
    wait_until(lambda: deliveries_lost(fleet, pool) == [1], what="it is given back", seconds=5)
    ended = fleet.until(box, report.container, "ended")
    assert ended.detail == "its container was killed by signal 9"
    assert fleet.pending(pool) == {}


def test_an_input_that_kills_its_containers_is_lost_in_the_end(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pool = fleet.publish(tmp_path / "src", SOURCE, {"suicide": None})["suicide"]
    called = fleet.call(pool)
    for _ in range(3):
        fleet.until(box, fleet.assign(box, pool), "ended")
    assert fleet.outcome(called) == "its container was killed by signal 9"


def test_what_a_fork_of_user_code_holds_open_is_closed_with_its_container(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pool = fleet.publish(tmp_path / "src", SOURCE, {"hold": None})["hold"]
    report = fleet.ready(box, pool)
    fleet.call(pool)
    fleet.until(box, report.container, "ended")
    assert fleet.pending(pool) == {}
    assert is_gone(report.pid)


def test_the_exit_status_of_a_container_is_told(fleet: Fleet, box: Box, tmp_path: Path) -> None:
    pool = fleet.publish(tmp_path / "src", SOURCE, {"leave": None})["leave"]
    report = fleet.ready(box, pool)
    fleet.call(pool, 7)
    ended = fleet.until(box, report.container, "ended")
    assert ended.detail == "its container exited with status 7"


def test_what_waits_behind_an_input_that_holds_the_gil_is_released_from_outside(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pool = fleet.publish(tmp_path / "src", SOURCE, {"work": None})["work"]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # A hog that happens to be the last of its claim holds nobody up; of three, one has company.
    paths = [*[""] * 60, str(pipe)] * 3 + [""] * 20
    calls = [fleet.call(pool, path) for path in paths]
    fleet.ready(box, pool)
    again = fleet.client.keys.again(pool)

    def released() -> bool:
        return bool(fleet.client.run(ask_one(b"XLEN", again)))

    with pipe.open("r+b", buffering=0) as opened:
        wait_until(released, what="they are released", seconds=20)
        opened.write(b"go on")
        assert [fleet.value(call) for call in calls] == [None] * len(calls)


def test_a_killed_worker_takes_its_containers_along(fleet: Fleet, box: Box, tmp_path: Path) -> None:
    pools = fleet.publish(
        tmp_path / "src", SOURCE, {"sleepy": None, "add": validated_options(fork=False)}
    )
    pids = [fleet.ready(box, pool).pid for pool in pools.values()]
    fleet.begin(pools["sleepy"], 600)
    family = box.family()
    assert set(pids) < set(family)
    box.process.kill()
    box.process.wait()
    wait_until(lambda: all(map(is_gone, family)), what="all are gone")


def test_another_worker_takes_over_what_a_lost_one_held(fleet: Fleet, tmp_path: Path) -> None:
    pool = fleet.publish(tmp_path / "src", SOURCE, {"second_time": None})["second_time"]
    with fleet.box(program=QUICK_LEASE) as box:
        with fleet.box(program=QUICK_LEASE) as other:
            fleet.ready(other, pool)
            called = fleet.begin(pool)
            other.process.kill()
        fleet.ready(box, pool)
        assert fleet.value(called, seconds=25) is True
        wait_until(lambda: set(fleet.workers()) == {box.name}, what="its record is removed")


def test_a_dead_template_costs_nothing_but_the_next_fork(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pool = fleet.publish(tmp_path / "src", SOURCE, {"template": None})["template"]
    first = fleet.ready(box, pool)
    template = fleet.value(fleet.call(pool))
    assert template in box.family()
    assert template != first.pid
    os.kill(template, signal.SIGKILL)
    wait_until(lambda: is_gone(template), what="it is dead")
    assert fleet.value(fleet.call(pool)) == template
    fleet.ready(box, pool)
    report = fleet.report(box, first.container)
    assert report is not None
    assert report.state == "ready"


def test_a_stalled_server_ends_nothing(fleet: Fleet, tmp_path: Path, server: TestServer) -> None:
    """It lasts for longer than a lease, and than anybody waits for a reply."""
    pool = fleet.publish(tmp_path / "src", SOURCE, {"sleepy": None})["sleepy"]
    with fleet.box(program=QUICK_LEASE) as box, fleet.box(program=QUICK_LEASE) as other:
        first, second = fleet.ready(box, pool), fleet.ready(other, pool)
        called = fleet.begin(pool, 6)
        with server.frozen():
            ends = time.monotonic() + 5.5
            wait_until(lambda: time.monotonic() > ends, what="the stall is over", seconds=15)
        assert fleet.value(called, seconds=20) == 6
        assert set(fleet.workers()) == {box.name, other.name}
        assert fleet.until(box, first.container, "ready").pid == first.pid
        assert fleet.until(other, second.container, "ready").pid == second.pid


def test_a_worker_stops_within_its_grace_although_the_server_stands_still(
    fleet: Fleet, tmp_path: Path, server: TestServer
) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"sleepy": None, "add": None})
    with no_process_left(), fleet.box("--grace", "0.5", program=IMPATIENT) as box:
        for pool in pools.values():
            fleet.ready(box, pool)
        fleet.begin(pools["sleepy"], 600)
        with server.frozen():
            assert box.stop(seconds=15) == 0


def test_a_worker_that_was_given_up_ends_its_containers_and_comes_back(
    fleet: Fleet, tmp_path: Path
) -> None:
    pool = fleet.publish(tmp_path / "src", SOURCE, {"sleepy": None})["sleepy"]
    with no_process_left(), fleet.box(program=QUICK_LEASE) as box:
        report = fleet.ready(box, pool)
        fleet.begin(pool, 600)
        fleet.client.run(ask_one(b"ZREM", fleet.client.keys.workers, box.name))
        wait_until(lambda: is_gone(report.pid), what="its container ends")
        wait_until(lambda: set(fleet.workers()) - {box.name}, what="it comes back")
        fleet.client.run(Sweeper(fleet.client.keys).audit())
        assert len(deliveries_lost(fleet, pool)) == 1


@pytest.fixture
def small(fleet: Fleet) -> Iterator[Box]:
    """A box for three containers; the leader is whoever asks next."""
    fleet.client.run(fleet.client.fleet.resign("au-test"))
    with fleet.box("--max-containers", "3") as box:
        yield box


def called(fleet: Fleet, pools: dict[str, Pool]) -> dict[str, tuple[Call, bytes]]:
    return {name: fleet.call(pools[name], number) for number, name in enumerate(NAMES)}


def living(fleet: Fleet, box: Box) -> list[int]:
    """The pids of the containers that are ready."""
    reports = fleet.client.run(fleet.client.fleet.containers([box.name]))[box.name]
    return [each.pid for each in reports if each.state == "ready" and each.pid]


def is_reported(fleet: Fleet, box: Box, pid: int) -> bool:
    """Whether the box knows that the container of that pid has ended."""
    return pid not in living(fleet, box)


def test_containers_that_are_killed_while_pools_take_turns_cost_no_input(
    fleet: Fleet, small: Box, settings: Settings, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "src", TURNS, dict.fromkeys(NAMES))
    with autoscaling(settings):
        calls = called(fleet, pools)
        for _ in range(4):
            pid = wait_until(lambda: living(fleet, small), what="a ready container")[0]
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wait_until(partial(is_reported, fleet, small, pid), what="it is reported")
        values = [fleet.value(calls[name], seconds=60) for name in NAMES]
    assert values == list(range(len(NAMES)))


def test_no_box_runs_more_than_it_may_and_no_pool_more_than_its_maximum_under_two_autoscalers(
    fleet: Fleet, small: Box, settings: Settings, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "src", TURNS, dict.fromkeys(NAMES))
    most: list[int] = []

    def ended() -> bool:
        reports = fleet.client.run(fleet.client.fleet.containers([small.name]))[small.name]
        alive = [each for each in reports if not (each.is_over or each.leaving)]
        most.append(len(alive))
        assert len({each.pool for each in alive}) == len(alive), "two for one input"
        seen = fleet.client.run(fleet.client.observing.observe(list(pools.values())))
        return all(each is not None and each.inflight == 0 for each in seen)

    with autoscaling(settings), autoscaling(settings):
        calls = called(fleet, pools)
        wait_until(ended, what="all inputs have ended", seconds=60)
    assert [fleet.value(calls[name]) for name in NAMES] == list(range(len(NAMES)))
    assert max(most) <= 3
