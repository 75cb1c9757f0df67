"""What is done from outside for containers that cannot do it: sweep, audit, settle, release."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from qmodal.client.client import Client
from qmodal.spec.options import FunctionOptions, validated_options
from qmodal.store.entries import Claimed
from qmodal.store.fleet import ContainerReport, WorkerReport
from qmodal.store.watch.sweeper import Sweeper
from qmodal.transport.operation import ask_one
from qmodal.wire.ids import container_id, new_worker_id
from qmodal.wire.outcome import Outcome
from qmodal.wire.signing import digest_of
from qmodal_workers.agent.containers import Container
from qmodal_workers.agent.takeover import end_overrun, release_behind
from qmodal_workers.ipc.endpoints import Endpoints
from qmodal_workers.ipc.shared_record import ContainerStatus
from tests.support.boxes import Fleet
from tests.support.store.driving import before_each_step, before_step

pytestmark = pytest.mark.leaves_keys

SOURCE = "def add(x, y): return x + y\n"


@pytest.fixture
def pool(fleet: Fleet, tmp_path: Path) -> str:
    return fleet.publish(tmp_path / "src", SOURCE, {"add": None})["add"]


def enroll(client: Client) -> str:
    worker = new_worker_id()
    report = WorkerReport(
        worker=worker, host="h", pid=1, cpus=1, memory=1, max_containers=1, python="", version=""
    )
    client.run(client.fleet.enroll(report))
    return worker


def claim(client: Client, pool: str, container: str, *, count: int = 10) -> list[Claimed]:
    command = client.pools.claim_command(pool, container, count=count, block=None)
    return client.pools.parse_claim(pool, client.run(ask_one(*command)))


def as_container(name: str, pool: str, options: FunctionOptions | None = None) -> Container:
    report = ContainerReport(
        container=name,
        pool=pool,
        app="ap",
        function="add",
        label="add",
        number=1,
        state="ready",
        since=0,
    )
    return Container(report=report, options=options or FunctionOptions())


def doing(claimed: list[Claimed]) -> ContainerStatus:
    """A container that runs the first of them for three seconds, and may for one."""
    return ContainerStatus(
        state="busy",
        serial=1,
        started=time.monotonic_ns() - 3_000_000_000,
        timeout=1_000_000_000,
        running=1,
        held=tuple((each.lane, each.entry) for each in claimed),
    )


def lost_deliveries(fleet: Fleet, pool: str) -> list[bytes]:
    entries = fleet.client.run(ask_one(b"XRANGE", fleet.client.keys.again(pool), b"-", b"+"))
    return [fields[fields.index(b"d") + 1] for _, fields in entries]


def test_clearing_a_lost_worker_gives_back_what_its_assigned_containers_held(
    fleet: Fleet, client: Client, pool: str
) -> None:
    worker = enroll(client)
    container = container_id(worker, 1)
    assert client.run(client.fleet.assign(worker, {container: pool}, epoch=fleet.epoch))
    fleet.call(pool, 1, 2)
    assert len(claim(client, pool, container)) == 1
    client.run(Sweeper(client.keys).clear(worker))
    assert lost_deliveries(fleet, pool) == [b"1"]
    assert fleet.pending(pool) == {}
    assert fleet.workers() == {}
    assert client.run(client.fleet.assigned([worker])) == {worker: {}}


def test_the_audit_reclaims_consumers_without_a_worker_and_no_others(
    fleet: Fleet, client: Client, pool: str
) -> None:
    living = container_id(enroll(client), 1)
    dead = container_id(new_worker_id(), 1)
    for container in (living, dead):
        fleet.call(pool, 1, 2)
        assert len(claim(client, pool, container)) == 1
    assert client.run(Sweeper(client.keys).audit()) == [dead]
    assert fleet.pending(pool) == {living: 1}


@pytest.mark.parametrize("way", ["clear", "audit"])
def test_the_end_of_a_box_is_charged_once_although_its_containers_live_on(
    fleet: Fleet, client: Client, pool: str, way: str
) -> None:
    """They claim what was put back in line before the next one of them is reclaimed."""
    worker = enroll(client)
    containers = [container_id(worker, n) for n in range(1, 4)]
    for container in containers:
        client.run(client.fleet.assign(worker, {container: pool}, epoch=fleet.epoch))
        fleet.call(pool, 1, 2)
        assert len(claim(client, pool, container, count=1)) == 1
    client.run(ask_one(b"ZADD", client.keys.workers, 1, worker))
    since = client.run(client.fleet.sweep({worker: 1.0}))[worker]
    if way == "audit":
        client.run(client.fleet.retire(worker))
    sweeper = Sweeper(client.keys)
    op = sweeper.clear(worker, since=since) if way == "clear" else sweeper.audit(since=since)

    def claim_again() -> None:
        for container in containers:
            claim(client, pool, container)

    client.run(before_each_step(op, claim_again))
    claim_again()
    client.run(Sweeper(client.keys).audit(since=since))
    assert lost_deliveries(fleet, pool) == [b"1"] * 3


def test_what_a_marked_container_may_have_started_is_lost_whenever_it_was_put_back(
    fleet: Fleet, client: Client, pool: str
) -> None:
    called = fleet.call(pool, 1, 2)
    client.run(ask_one(*client.pools.mark_command(pool, "ta-x-1")))
    (claimed,) = claim(client, pool, "ta-x-1")
    client.run(client.pools.release(pool, [(1, claimed.entry, claimed.call)]))
    assert len(claim(client, pool, "ta-x-1")) == 1
    reclaim = client.pools.reclaim(pool, "ta-x-1", reason="gone", charged=("*",), since=1)
    assert client.run(reclaim) == (0, 1)
    assert fleet.outcome(called) == "gone"


def test_a_sweeper_that_has_just_begun_gives_nobody_up(fleet: Fleet, client: Client) -> None:
    worker = enroll(client)
    client.run(ask_one(b"ZADD", client.keys.workers, 1, worker))
    assert client.run(Sweeper(client.keys).sweep()) == []
    assert fleet.workers() == {worker: 1.0}


def test_a_sweep_that_the_server_gets_to_too_late_does_nothing(
    fleet: Fleet, client: Client
) -> None:
    worker = enroll(client)
    client.run(ask_one(b"ZADD", client.keys.workers, 1, worker))
    assert client.run(client.fleet.sweep({worker: 1.0}, latest=2)) == {}
    assert list(client.run(client.fleet.sweep({worker: 1.0}))) == [worker]
    assert fleet.workers() == {worker: 0.0}


def test_an_input_that_ran_out_of_time_is_settled_for_its_container(
    fleet: Fleet, client: Client, pool: str
) -> None:
    called = fleet.call(pool, blob=digest_of(b"large"))
    client.run(ask_one(b"SET", client.keys.blob(called[0], 0), b"large"))
    claimed = claim(client, pool, "ta-x-1")
    client.run(end_overrun(client, as_container("ta-x-1", pool), doing(claimed)))
    outcome = fleet.outcome(called)
    assert isinstance(outcome, Outcome)
    assert (outcome.kind, outcome.container) == ("timeout", "ta-x-1")
    assert outcome.took >= 3_000_000
    assert client.run(client.kept_arguments.read(called[0], 0)) == [b"large"]  # to run it again
    client.run(end_overrun(client, as_container("ta-x-1", pool), doing(claimed)))


def test_an_input_that_ran_out_of_time_is_retried_while_it_may_be(
    fleet: Fleet, client: Client, pool: str
) -> None:
    fleet.call(pool, 1, 2)
    claimed = claim(client, pool, "ta-x-1")
    container = as_container("ta-x-1", pool, validated_options(retries=1))
    client.run(end_overrun(client, container, doing(claimed)))
    (seen,) = client.run(client.observing.observe([pool]))
    assert seen is not None
    assert (seen.delayed, seen.inflight) == (1, 1)


def test_what_is_claimed_behind_a_long_input_can_be_released_for_the_container(
    fleet: Fleet, client: Client, pool: str
) -> None:
    for _ in range(3):
        fleet.call(pool, 1, 2)
    claimed = claim(client, pool, "ta-x-1")
    with recorded("ta-x-1", pool, doing(claimed)) as container:
        assert client.run(release_behind(client, container, doing(claimed))) == 2
        assert client.run(release_behind(client, container, doing(claimed))) == 0
    assert fleet.pending(pool) == {"ta-x-1": 1}
    assert lost_deliveries(fleet, pool) == [b"0", b"0"]


def test_what_a_container_has_claimed_ahead_is_released_with_it_and_what_has_ended_is_not(
    fleet: Fleet, client: Client, pool: str
) -> None:
    for _ in range(3):
        fleet.call(pool, 1, 2)
    ended, running, _unread = claim(client, pool, "ta-x-1")
    does = replace(doing([running]), ahead=True)
    with recorded("ta-x-1", pool, does) as container:
        assert client.run(release_behind(client, container, does)) == 1
    assert fleet.pending(pool) == {"ta-x-1": 2}
    assert ended.entry < running.entry


@pytest.mark.parametrize("moment", range(4))
def test_what_is_released_from_outside_is_not_started_by_a_container_that_looks_again(
    fleet: Fleet, client: Client, pool: str, moment: int
) -> None:
    """Its long input ends before one of the steps of the release, or behind the last."""
    for _ in range(3):
        fleet.call(pool, 1, 2)
    claimed = claim(client, pool, "ta-x-1")
    kept: list[Claimed] = []

    def end_and_look_again() -> None:
        assert container.endpoints is not None
        container.endpoints.record.write(ContainerStatus(state="idle"))
        reply = client.run(ask_one(*client.pools.held_command(pool, "ta-x-1")))
        kept.extend(client.pools.parse_claim(pool, reply)[1:])

    with recorded("ta-x-1", pool, doing(claimed)) as container:
        op = release_behind(client, container, doing(claimed))
        released = client.run(before_step(op, moment, end_and_look_again))
        if moment == 3:
            end_and_look_again()
    assert (released, len(kept)) == ((2, 0) if moment == 3 else (0, 2))


@contextmanager
def recorded(name: str, pool: str, does: ContainerStatus) -> Iterator[Container]:
    """A container with a record that says so."""
    ends = Endpoints.create()
    ends.record.write(does)
    container = as_container(name, pool)
    container.endpoints = ends
    yield container
    ends.hand_over()
    ends.close()


def test_it_is_known_whether_a_container_still_holds_an_entry(
    fleet: Fleet, client: Client, pool: str
) -> None:
    call, _ = fleet.call(pool, 1, 2)
    claimed = claim(client, pool, "ta-x-1")
    entry = doing(claimed).held[0]
    assert client.run(client.pools.holds(pool, "ta-x-1", *entry))
    assert not client.run(client.pools.holds(pool, "ta-x-2", *entry))
    client.run(client.calls.cancel(call))
    assert not client.run(client.pools.holds(pool, "ta-x-1", *entry))
