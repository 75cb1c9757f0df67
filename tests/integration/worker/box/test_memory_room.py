"""Starts that wait for memory, and what containers were measured to use, in real workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from qmodal.store.watch.observing import Observation
from tests.support.boxes import Box, Fleet
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys

SOURCE = """
import time

def take(megabytes, seconds, *mark):
    held = bytearray(megabytes << 20)
    for at in range(0, len(held), 4096):
        held[at] = 1
    time.sleep(seconds)
    return megabytes

def compute(seconds, *mark):
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        pass

def wait(seconds, *mark):
    time.sleep(seconds)
"""
MEBIBYTE = 2**20


def seen(fleet: Fleet, pool: str) -> Observation:
    (found,) = fleet.client.run(fleet.client.observing.observe([pool]))
    assert found is not None
    return found


def living(fleet: Fleet, box: Box) -> int:
    reports = fleet.client.run(fleet.client.fleet.containers([box.name]))[box.name]
    return sum(not each.is_over for each in reports)


def working(fleet: Fleet, box: Box) -> int:
    """Containers that are not about to end."""
    reports = fleet.client.run(fleet.client.fleet.containers([box.name]))[box.name]
    return sum(not (each.is_over or each.leaving) for each in reports)


def test_what_containers_use_is_learned_for_each_pool(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pools = fleet.publish(
        tmp_path / "src", SOURCE, dict.fromkeys(("take", "compute", "wait"), None)
    )
    for name in pools:
        fleet.ready(box, pools[name])
    calls = [
        fleet.call(pools["take"], 200, 4),
        fleet.call(pools["compute"], 4),
        fleet.call(pools["wait"], 4),
    ]
    wait_until(
        lambda: all(seen(fleet, pool).busy_cpu is not None for pool in pools.values()),
        what="all are measured",
    )
    wait_until(lambda: (seen(fleet, pools["take"]).memory or 0) > 200 * MEBIBYTE, what="its memory")
    for call in calls:
        fleet.outcome(call)
    cpus = {name: seen(fleet, pool).busy_cpu or 0.0 for name, pool in pools.items()}
    assert cpus["wait"] < 0.1 < cpus["compute"] <= 1.1
    assert (seen(fleet, pools["wait"]).memory or 0) < 64 * MEBIBYTE
    assert (seen(fleet, pools["take"]).memory or 0) < 300 * MEBIBYTE


def test_no_more_containers_start_than_there_is_memory_for(fleet: Fleet, tmp_path: Path) -> None:
    """A map of 60 inputs on two processors started 32 containers, which took 15 GB."""
    pool = fleet.publish(tmp_path / "src", SOURCE, {"take": None})["take"]
    with fleet.box("--memory", "1GiB") as box:
        fleet.ready(box, pool)
        calls = [fleet.call(pool, 400, 2.5) for _ in range(6)]
        # What is learned while it grows is written again when it is a fifth more.
        wait_until(
            lambda: (seen(fleet, pool).memory or 0) > 320 * MEBIBYTE, what="what it takes is known"
        )
        for _ in range(31):
            fleet.assign(box, pool)
        seen_living = set[int]()

        def are_done() -> bool:
            seen_living.add(working(fleet, box))
            return not seen(fleet, pool).inflight

        wait_until(are_done, what="all inputs end", seconds=60, pause=0.02)
        assert [fleet.value(call) for call in calls] == [400] * 6
        assert 2 <= max(seen_living) <= 3, "three take all of a gibibyte, and a fourth waits"


def test_what_others_have_measured_holds_starts_back_too(fleet: Fleet, tmp_path: Path) -> None:
    pool = fleet.publish(tmp_path / "src", SOURCE, {"take": None})["take"]
    client = fleet.client
    client.run(client.observing.learned(pool, memory=700 * MEBIBYTE))
    with fleet.box("--memory", "1GiB") as box:
        first = fleet.ready(box, pool)
        second = fleet.assign(box, pool)
        assert fleet.value(fleet.call(pool, 1, 0)) == 1
        assert fleet.report(box, second) is None, "it waits"
        fleet.take_off(box, first.container)
        fleet.until(box, second, "ready")


def test_what_takes_little_starts_as_often_as_it_may(fleet: Fleet, tmp_path: Path) -> None:
    pool = fleet.publish(tmp_path / "src", SOURCE, {"wait": None})["wait"]
    with fleet.box("--memory", "2GiB") as box:
        fleet.ready(box, pool)
        last = [fleet.assign(box, pool) for _ in range(31)][-1]
        fleet.until(box, last, "ready", seconds=40)
        assert living(fleet, box) == 32
