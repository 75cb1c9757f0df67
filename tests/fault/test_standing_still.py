"""A worker that stands still while its containers live: others take its box for lost, and nothing runs twice there."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qmodal.store.fleet import ContainerReport
from qmodal.store.watch.sweeper import Sweeper
from qmodal.transport.operation import ask_one
from tests.support.boxes import SHORT_LEASE, Box, Fleet, Pool
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys

SOURCE = """
import os, time

def work(path, sticks):
    with open(path, "a+") as file:
        file.write(os.environ["QMODAL_CONTAINER"] + "\\n")
        file.seek(0)
        is_first = len(file.readlines()) == 1
    if sticks and is_first:
        time.sleep(600)
    return os.environ["QMODAL_CONTAINER"]
"""
# After that the containers of a worker with a short lease know that it may have ended.
STALE_SECONDS = 1.2


@pytest.fixture
def pool(fleet: Fleet, tmp_path: Path) -> Pool:
    return fleet.publish(tmp_path / "src", SOURCE, {"work": None})["work"]


@contextmanager
def still(fleet: Fleet, box: Box, *reports: ContainerReport) -> Iterator[None]:
    """The worker is stopped, and its containers have noticed: their last claims have ended."""
    connections = [each.connection for each in reports]

    def has_been_noticed() -> bool:
        about = fleet.client.run(ask_one(b"CLIENT", b"LIST", b"ID", *connections))
        return time.monotonic() > ends and b"flags=b" not in about

    os.kill(box.process.pid, signal.SIGSTOP)
    ends = time.monotonic() + STALE_SECONDS
    try:
        wait_until(has_been_noticed, what="its beat is stale")
        yield
    finally:
        os.kill(box.process.pid, signal.SIGCONT)


def sweep(fleet: Fleet, box: Box) -> None:
    """Take the box for lost, as whoever looks on does once its lease has ended."""
    client = fleet.client
    client.run(ask_one(b"ZADD", client.keys.workers, 1, box.name))
    since = client.run(client.fleet.sweep({box.name: 1.0}))[box.name]
    client.run(Sweeper(client.keys).clear(box.name, since=since))


def runs(path: Path) -> list[str]:
    """The containers in which an input was started, one after another."""
    return path.read_text().splitlines() if path.exists() else []


def test_what_is_taken_from_a_worker_that_stands_still_does_not_come_to_its_other_containers(
    fleet: Fleet, pool: Pool, tmp_path: Path
) -> None:
    path = tmp_path / "runs"
    with fleet.box(program=SHORT_LEASE) as box, fleet.box() as other:
        containers = [fleet.ready(box, pool) for _ in range(3)]
        called = fleet.call(pool, str(path), True)
        wait_until(lambda: runs(path), what="it runs")
        with still(fleet, box, *containers):
            sweep(fleet, box)
            elsewhere = fleet.ready(other, pool).container
            assert fleet.value(called) == elsewhere
            first, second = runs(path)
            assert first in [each.container for each in containers]
            assert second == elsewhere
        wait_until(lambda: box.name not in fleet.workers(), what="it comes back under a new id")
        assert fleet.pending(pool) in ({elsewhere: 0}, {})


def test_a_worker_that_goes_on_in_time_keeps_its_containers_and_they_claim_again(
    fleet: Fleet, pool: Pool, tmp_path: Path
) -> None:
    path = tmp_path / "runs"
    with fleet.box(program=SHORT_LEASE) as box:
        report = fleet.ready(box, pool)
        with still(fleet, box, report):
            called = fleet.call(pool, str(path), False)
            assert fleet.pending(pool).get(report.container, 0) == 0
            assert runs(path) == []
        assert fleet.value(called) == report.container
        assert runs(path) == [report.container]
