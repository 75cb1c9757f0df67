"""Autoscaler processes that die, stop and stall: one leads, and nobody starts anything twice."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.transport.operation import ask_one
from qmodal_autoscaler.control.election import Leadership
from tests.support.stage import Stage, options
from tests.support.waiting import wait_until

# An autoscaler and boxes that are given up sooner.
LEASE_MS = 3_000
PROGRAM = f"""
from qmodal.store import fleet
fleet.LEASE_MS, fleet.LEADER_MS = {LEASE_MS}, 2_000
from qmodal_autoscaler.control import election
election.ELECTION_SECONDS = 0.2
from qmodal_autoscaler.cli import autoscaler
autoscaler()
"""
Autoscaler = subprocess.Popen[str]


@contextmanager
def started(environ: dict[str, str]) -> Iterator[Autoscaler]:
    """An autoscaler process of these settings; it is killed at the end if it still runs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QMODAL_")}
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM],
        env={**kept, **environ},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def stage(client: Client) -> Stage:
    return Stage(client)


@pytest.fixture
def pair(client: Client, settings: Settings) -> Iterator[tuple[Autoscaler, Autoscaler]]:
    """One that leads, and one that waits."""
    with ExitStack() as stack:
        first = stack.enter_context(started(settings.to_environ()))
        wait_until(lambda: leader(client), what="a leader")
        second = stack.enter_context(started(settings.to_environ()))
        yield first, second


def leader(client: Client) -> bytes:
    found: bytes = client.run(ask_one(b"GET", client.keys.leader)) or b""
    return found


def test_another_one_takes_over_from_a_killed_leader_and_starts_nothing_twice(
    stage: Stage, pair: tuple[Autoscaler, Autoscaler]
) -> None:
    worker = stage.worker()
    stage.publish(f=options(max_containers=5))
    stage.submit(count=3)
    stage.until(lambda: len(worker.roster) == 3, "a container for each input")
    before, old = stage.assigned(), leader(stage.client)
    pair[0].kill()
    stage.submit(count=1)
    after = stage.until(
        lambda: stage.assigned() if len(stage.assigned()) != 3 else [], "the next one looks"
    )
    assert leader(stage.client) != old
    assert set(before) < set(after)
    assert len(after) == 4
    assert pair[1].poll() is None
    stage.close()


def test_a_leader_that_is_asked_to_stop_leaves_the_lead_at_once(
    stage: Stage, pair: tuple[Autoscaler, Autoscaler]
) -> None:
    old = leader(stage.client)
    pair[0].send_signal(signal.SIGTERM)
    assert pair[0].wait(10) == 0
    assert leader(stage.client) != old
    wait_until(lambda: leader(stage.client) not in (b"", old), what="another leader")


def test_a_leader_that_stalls_changes_nothing_when_it_comes_back(
    stage: Stage, pair: tuple[Autoscaler, Autoscaler]
) -> None:
    worker = stage.worker()
    stage.publish(f=options())
    old = leader(stage.client)
    pair[0].send_signal(signal.SIGSTOP)
    stage.submit(count=2)
    stage.until(lambda: len(worker.roster) == 2, "the other one serves them")
    assert leader(stage.client) != old
    now = leader(stage.client)
    pair[0].send_signal(signal.SIGCONT)
    assert pair[0].stderr is not None
    lines = iter(pair[0].stderr.readline, "")
    assert any("leads no more" in line for line in lines)
    assert len(worker.assigned()) == 2
    assert leader(stage.client) == now
    stage.close()


@pytest.mark.leaves_keys
@pytest.mark.timeout(90)
def test_a_lost_box_is_replaced_by_the_others(
    stage: Stage, pair: tuple[Autoscaler, Autoscaler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qmodal.store.fleet.LEASE_MS", LEASE_MS)
    lost, other = stage.worker(max_containers=9), stage.worker(max_containers=2)
    stage.publish(f=options())
    call = stage.submit()
    stage.until(lambda: lost.assigned() and lost.roster, "a container on the larger box")
    assert lost.claim(min(lost.roster))
    stage.workers.remove(lost)
    stage.until(lambda: stage.serve(), "the other box serves its input", seconds=40)
    assert stage.notes(call) == [None]
    stage.until(
        lambda: list(stage.client.run(stage.client.fleet.workers())) == [other.name],
        "its record is removed",
    )


def test_a_leader_that_meets_what_nobody_thought_of_begins_again(client: Client) -> None:
    epochs: list[int] = []

    async def rule(epoch: int) -> None:
        epochs.append(epoch)
        if len(epochs) == 1:
            raise RuntimeError("nobody thought of this")
        again.set()
        await asyncio.Event().wait()

    async def lead() -> None:
        leadership = Leadership(client, rule)
        seeking = asyncio.create_task(leadership.seek())
        waiting = asyncio.create_task(again.wait())
        await asyncio.wait({seeking, waiting}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert not seeking.done()
        seeking.cancel()
        await asyncio.wait({seeking})
        await leadership.resign()
        await client.aclose()

    again = asyncio.Event()
    asyncio.run(lead())
    assert len(epochs) == 2


@pytest.mark.parametrize(
    "environ",
    [
        {"QMODAL_REDIS_URL": "http://nowhere"},
        {"QMODAL_REDIS_URL": "redis://192.0.2.1:6379/0"},
        {"QMODAL_PREFIX": "no good"},
    ],
    ids=["not a server", "a server on the network without a key", "not a prefix"],
)
def test_settings_that_make_no_sense_end_it_with_one_line(environ: dict[str, str]) -> None:
    with started(environ) as process:
        assert process.wait(10) == 2
        assert process.stderr is not None
        lines = process.stderr.read().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("qmodal autoscaler: ")


def test_a_foreign_key_ends_it_with_one_line(client: Client, settings: Settings) -> None:
    client.run(ask_one(b"PING"))
    environ = {**settings.to_environ(), "QMODAL_SIGNING_KEY": "another key, and long enough"}
    with started(environ) as process:
        assert process.wait(10) == 2
        assert process.stderr is not None
        assert "another signing key" in process.stderr.read()
