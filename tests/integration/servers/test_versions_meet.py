"""Containers that meet an input which they cannot decode: others may be able to, or nobody is."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import ModuleType

import pytest

from qmodal.client.client import Client
from qmodal.store.fleet import WorkerReport
from qmodal.transport.operation import ask_one
from qmodal.wire.ids import new_worker_id, shard_of
from qmodal.wire.outcome import Outcome
from tests.support.boxes import Box, Call, Fleet, Pool
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys

OLD = "def name_of(kind): return kind.__name__\n"
NEW = OLD + "class Recent: pass\n"
OTHER_PYTHON = "3.99"


@pytest.fixture
def pool(fleet: Fleet, box: Box, tmp_path: Path) -> Pool:
    return fleet.publish(tmp_path / "src", OLD, {"name_of": None})["name_of"]


def enroll(client: Client, python: str) -> None:
    """A box with that Python, which does nothing, and is never given up."""
    worker = new_worker_id()
    report = WorkerReport(
        worker=worker,
        host="h",
        pid=1,
        cpus=1,
        memory=1,
        max_containers=1,
        python=python,
        version="",
    )
    client.run(client.fleet.enroll(report))
    client.run(ask_one(b"ZADD", client.keys.workers, b"9e15", worker))


def call_recent(fleet: Fleet, pool: Pool) -> tuple[Call, bytes]:
    """A call with a class that only the new version of the code has, by reference."""
    module = ModuleType("shop")
    exec(NEW, module.__dict__)
    sys.modules["shop"] = module
    try:
        payload = pickle.dumps(((module.Recent,), {}))
    finally:
        del sys.modules["shop"]
    return fleet.call(pool, format="p", payload=payload)


def waiting(fleet: Fleet, pool: Pool) -> list[int]:
    """How many deliveries each input that was given back has lost."""
    entries = fleet.client.run(ask_one(b"XRANGE", fleet.client.keys.again(pool), b"-", b"+"))
    return [int(fields[fields.index(b"d") + 1]) for _, fields in entries]


def dead(fleet: Fleet, pool: Pool) -> list[bytes]:
    """Why entries of the pool were set aside."""
    key = fleet.client.keys.dead(shard_of(pool))
    return [
        fields[1]
        for _, fields in fleet.client.run(ask_one(b"XRANGE", key, b"-", b"+"))
        if fields[3] == pool.encode()
    ]


def test_an_old_container_leaves_what_it_does_not_know_to_one_of_the_new_version(
    fleet: Fleet, box: Box, pool: Pool, tmp_path: Path
) -> None:
    old = fleet.ready(box, pool)
    fleet.publish(tmp_path / "src", NEW, {"name_of": None}, app_id=old.app, number=2)
    called = call_recent(fleet, pool)
    ended = fleet.until(box, old.container, "ended")
    assert "newer version" in ended.detail
    assert (waiting(fleet, pool), fleet.pending(pool)) == ([0], {})
    assert fleet.ready(box, pool).number == 2
    assert fleet.value(called) == "Recent"


def test_what_the_current_version_does_not_know_fails_and_its_container_goes_on(
    fleet: Fleet, box: Box, pool: Pool
) -> None:
    report = fleet.ready(box, pool)
    outcome = fleet.outcome(call_recent(fleet, pool))
    assert isinstance(outcome, Outcome)
    assert outcome.kind == "error"
    assert b"DeserializationError" in outcome.payload
    assert fleet.until(box, report.container, "ready").pid == report.pid


def test_code_of_another_python_is_set_aside_where_nobody_has_it(
    fleet: Fleet, box: Box, pool: Pool
) -> None:
    report = fleet.ready(box, pool)
    outcome = fleet.outcome(fleet.call(pool, 1, format="c", python=OTHER_PYTHON))
    assert "carry code of Python 3.99" in str(outcome)
    assert len(dead(fleet, pool)) == 1
    assert fleet.until(box, report.container, "ready").pid == report.pid


def test_code_of_another_python_is_left_to_a_box_that_has_it(
    fleet: Fleet, box: Box, pool: Pool
) -> None:
    enroll(fleet.client, f"{OTHER_PYTHON}.1")
    report = fleet.ready(box, pool)
    fleet.call(pool, 1, format="c", python=OTHER_PYTHON)
    ended = fleet.until(box, report.container, "ended")
    assert "Python 3.99" in ended.detail
    assert ended.unfit
    assert (waiting(fleet, pool), fleet.pending(pool)) == ([1], {})
    assert dead(fleet, pool) == []


def test_what_no_container_comes_to_decode_is_set_aside_in_the_end(
    fleet: Fleet, box: Box, pool: Pool
) -> None:
    enroll(fleet.client, f"{OTHER_PYTHON}.1")
    called = fleet.call(pool, 1, format="c", python=OTHER_PYTHON)
    for _ in range(3):
        fleet.until(box, fleet.assign(box, pool), "ended")
    assert "use the same minor version" in str(fleet.outcome(called))
    assert len(dead(fleet, pool)) == 1
    report = fleet.ready(box, pool)
    wait_until(lambda: report.container in fleet.pending(pool), what="it waits for others")
