"""Limits of containers: what takes too much memory ends, and says so; what is limited to CPUs gets no others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qmodal.spec.options import validated_options
from qmodal.store.pools import BUDGET
from tests.support.boxes import Box, Fleet

pytestmark = pytest.mark.leaves_keys

SOURCE = """
import multiprocessing, os, time

def take(megabytes):
    held = bytearray(megabytes << 20)
    for at in range(0, len(held), 4096):
        held[at] = 1
    time.sleep(600 if megabytes > 100 else 0.7)
    return megabytes

def share(megabytes):
    held = bytearray(megabytes << 20)
    for at in range(0, len(held), 4096):
        held[at] = 1
    pids = [os.fork() for _ in range(4)]
    if 0 in pids:
        time.sleep(1.2)
        os._exit(0)
    for pid in pids:
        os.waitpid(pid, 0)
    return megabytes

def spread():
    if not os.fork():
        os.setsid()
        take(300)
    time.sleep(600)

def cpus():
    return [sorted(os.sched_getaffinity(0)), os.environ.get("OMP_NUM_THREADS")]
"""
LIMITED = validated_options(memory=(50, 200))


def test_a_container_over_its_memory_limit_ends_and_its_caller_hears_why(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pool = fleet.publish(tmp_path / "src", SOURCE, {"take": LIMITED})["take"]
    containers = [fleet.ready(box, pool) for _ in range(BUDGET)]
    assert fleet.value(fleet.call(pool, 60)) == 60, "below its limit it goes on"
    called = fleet.call(pool, 300)
    said = fleet.outcome(called, seconds=30)
    assert isinstance(said, str), said
    assert "above its memory limit of 200.0 MiB; raise `memory=`" in said
    for each in containers:
        report = fleet.until(box, each.container, "ended")
        assert "above its memory limit" in report.detail


def test_what_processes_share_counts_once(fleet: Fleet, box: Box, tmp_path: Path) -> None:
    pool = fleet.publish(tmp_path / "src", SOURCE, {"share": LIMITED})["share"]
    fleet.ready(box, pool)
    assert fleet.value(fleet.call(pool, 100)) == 100


def test_what_a_container_has_started_counts_wherever_it_has_gone(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pool = fleet.publish(tmp_path / "src", SOURCE, {"spread": LIMITED})["spread"]
    ready = fleet.ready(box, pool)
    fleet.call(pool)
    assert "memory limit" in fleet.until(box, ready.container, "ended", seconds=30).detail


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor only")
def test_a_cpu_limit_is_the_processors_that_a_container_may_use(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    limited, asking = validated_options(cpu=(0.5, 1.0)), validated_options(cpu=1.5)
    source = SOURCE + "\none = two = free = cpus\n"
    pools = fleet.publish(
        tmp_path / "src", source, {"one": limited, "two": limited, "free": asking, "cpus": None}
    )
    for pool in pools.values():
        fleet.ready(box, pool)
    found = {name: fleet.value(fleet.call(pool)) for name, pool in pools.items()}
    assert len(found["one"][0]) == len(found["two"][0]) == 1
    assert found["one"][0] != found["two"][0], "one that fewer others are limited to"
    everything = sorted(os.sched_getaffinity(0))
    assert found["free"] == [everything, "2"]
    assert found["cpus"] == [everything, os.environ.get("OMP_NUM_THREADS")]
    assert found["one"][1] == "1"
