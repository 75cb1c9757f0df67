"""Containers and workers that die, and a server that stalls: nothing is lost, nothing runs on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from qmodal.spec.options import validated_options
from qmodal.store.sweeper import Sweeper
from qmodal.transport.operation import ask_one
from tests.support.boxes import Box, Fleet
from tests.support.servers import TestServer, no_process_left
from tests.support.stacks import is_gone
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys

SOURCE = """
import ctypes, os, time

def hog(milliseconds):
    # Unlike CDLL, PyDLL keeps the GIL: no other thread of the container runs meanwhile.
    ctypes.PyDLL(None).usleep(1000 * milliseconds)

def sleepy(seconds):
    time.sleep(seconds)
    return seconds

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


def deliveries_lost(fleet: Fleet, pool: str) -> list[int]:
    entries = fleet.client.run(ask_one(b"XRANGE", fleet.client.keys.again(pool), b"-", b"+"))
    return [int(fields[fields.index(b"d") + 1]) for _, fields in entries]


def test_a_killed_containers_input_is_back_at_once_and_charged(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"sleepy": None})
    pool = pools["sleepy"]
    report = fleet.ready(box, pool)
    fleet.call(pool, 600)
    wait_until(lambda: fleet.is_running(pool), what="it runs")
    begin = time.monotonic()
    os.kill(report.pid, signal.SIGKILL)
    wait_until(lambda: deliveries_lost(fleet, pool) == [1], what="it is given back", seconds=2)
    assert time.monotonic() - begin < 0.5
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
    pool = fleet.publish(tmp_path / "src", SOURCE, {"hog": None})["hog"]
    # A hog that happens to be the last of its claim holds nobody up; of three, one has company.
    calls = [fleet.call(pool, n) for n in [*[0] * 60, 1500] * 3 + [0] * 20]
    fleet.ready(box, pool)
    again = fleet.client.keys.again(pool)

    def released() -> bool:
        return bool(fleet.client.run(ask_one(b"XLEN", again)))

    wait_until(released, what="they are released", seconds=6)
    assert [fleet.value(call) for call in calls] == [None] * len(calls)


def test_a_killed_worker_takes_its_containers_along(fleet: Fleet, box: Box, tmp_path: Path) -> None:
    pools = fleet.publish(
        tmp_path / "src", SOURCE, {"sleepy": None, "add": validated_options(fork=False)}
    )
    pids = [fleet.ready(box, pool).pid for pool in pools.values()]
    fleet.call(pools["sleepy"], 600)
    wait_until(lambda: fleet.is_running(pools["sleepy"]), what="it runs")
    family = box.family()
    assert set(pids) < set(family)
    box.process.kill()
    box.process.wait()
    wait_until(lambda: all(map(is_gone, family)), what="all are gone", seconds=2)


def test_another_worker_takes_over_what_a_lost_one_held(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pool = fleet.publish(tmp_path / "src", SOURCE, {"sleepy": None})["sleepy"]
    with fleet.box() as other:
        fleet.ready(other, pool)
        called = fleet.call(pool, 1.5)
        wait_until(lambda: fleet.is_running(pool), what="it runs")
        other.process.kill()
    fleet.ready(box, pool)
    assert fleet.value(called, seconds=25) == 1.5
    wait_until(lambda: set(fleet.workers()) == {box.name}, what="its record is removed")


def test_a_dead_template_costs_nothing_but_the_next_fork(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pool = fleet.publish(tmp_path / "src", SOURCE, {"add": None})["add"]
    first = fleet.ready(box, pool)
    for child in psutil.Process(box.process.pid).children():
        if "qmodal_workers.spawn.template" in child.cmdline() and child.pid != first.pid:
            child.kill()
    assert fleet.value(fleet.call(pool, 1, 2)) == 3
    fleet.ready(box, pool)
    report = fleet.report(box, first.container)
    assert report is not None
    assert report.state == "ready"


def test_a_stalled_server_ends_nothing(
    fleet: Fleet, box: Box, tmp_path: Path, server: TestServer
) -> None:
    pool = fleet.publish(tmp_path / "src", SOURCE, {"sleepy": None})["sleepy"]
    with fleet.box() as other:
        first, second = fleet.ready(box, pool), fleet.ready(other, pool)
        called = fleet.call(pool, 14)
        wait_until(lambda: fleet.is_running(pool), what="it runs")
        with server.frozen():
            ends = time.monotonic() + 12
            wait_until(lambda: time.monotonic() > ends, what="the stall is over", seconds=15)
        assert fleet.value(called, seconds=20) == 14
        assert set(fleet.workers()) == {box.name, other.name}
        assert fleet.until(box, first.container, "ready").pid == first.pid
        assert fleet.until(other, second.container, "ready").pid == second.pid


def test_a_worker_stops_within_its_grace_although_the_server_stands_still(
    fleet: Fleet, tmp_path: Path, server: TestServer
) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"sleepy": None, "add": None})
    with no_process_left(), fleet.box("--grace", "1") as box:
        for pool in pools.values():
            fleet.ready(box, pool)
        fleet.call(pools["sleepy"], 600)
        wait_until(lambda: fleet.is_running(pools["sleepy"]), what="it runs")
        with server.frozen():
            assert box.stop(seconds=6) == 0


def test_a_worker_that_was_given_up_ends_its_containers_and_comes_back(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pool = fleet.publish(tmp_path / "src", SOURCE, {"sleepy": None})["sleepy"]
    report = fleet.ready(box, pool)
    fleet.call(pool, 600)
    wait_until(lambda: fleet.is_running(pool), what="it runs")
    fleet.client.run(ask_one(b"ZREM", fleet.client.keys.workers, box.name))
    wait_until(lambda: is_gone(report.pid), what="its container ends", seconds=4)
    wait_until(lambda: set(fleet.workers()) - {box.name}, what="it comes back", seconds=4)
    fleet.client.run(Sweeper(fleet.client.keys).audit())
    assert len(deliveries_lost(fleet, pool)) == 1
