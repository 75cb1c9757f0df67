"""Schedules of deployed apps, started by control processes on a real server."""

from __future__ import annotations

import signal
import subprocess
from itertools import pairwise

import pytest

import qmodal
from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.exception import InvalidError
from qmodal.services.control.figures import ControlFigures
from qmodal.services.control.schedules import firing
from qmodal.services.control.schedules.calls import submit_now, submit_slot
from qmodal.services.control.schedules.firing import Firing
from qmodal.store.server import server_ms
from qmodal.wire.ids import derived_call_id, shard_of
from tests.integration.control_plane.schedules.conftest import Shop, control
from tests.support.servers import TestServer, run_server, server_binary
from tests.support.waiting import wait_until

YEARLY = qmodal.Period(years=1)


def fire(shop: Shop, function: str, slot: int) -> str:
    """As the job of that slot does."""
    identity = shop.schedule(function).cadence.identity
    return Firing(shop.client, ControlFigures()).fire(shop.app_id, function, slot, identity)


def now_of(shop: Shop) -> int:
    """The server's clock, in ms."""
    return round(shop.client.run(server_ms()))


def minute(shop: Shop) -> int:
    """The next slot of `* * * * *`."""
    return (now_of(shop) // 60_000 + 1) * 60_000


def test_two_processes_make_one_call_of_each_slot(shop: Shop, settings: Settings) -> None:
    shop.deploy(tick=qmodal.Period(seconds=1), rare=YEARLY)
    with control(settings) as first, control(settings) as second:
        calls = shop.wait("tick", 4)
        for process in (first, second):
            process.send_signal(signal.SIGTERM)
        for process in (first, second):
            _, said = process.communicate(timeout=30)
            assert process.returncode == 0, said.decode()
            assert b"Traceback" not in said, said.decode()
    calls = shop.calls("tick")
    assert len(set(calls)) == len(calls)
    assert shop.calls("rare") == []
    deployed, pool = shop.schedule("tick").deployed, _pool(shop, "tick")
    numbers = {
        derived_call_id(shard_of(pool), pool, f"slot {deployed + n * 1000}"): n for n in range(1000)
    }
    # Two that were put in line together may overtake each other.
    assert all(b - a == 1 for a, b in pairwise(sorted(numbers[call] for call in calls)))


def _pool(shop: Shop, function: str) -> str:
    from qmodal.spec.documents import PoolSpec

    return PoolSpec(app_id=shop.app_id, function=function).pool


def test_a_slot_that_is_fired_again_is_the_same_call(shop: Shop) -> None:
    shop.deploy(f=qmodal.Cron("* * * * *"))
    slot = minute(shop)
    call = fire(shop, "f", slot)
    assert shop.calls("f") == [call]
    run = shop.schedule("f").notes.run
    assert run is not None
    assert (run.slot, run.call) == (slot, call)
    assert "over" in fire(shop, "f", slot)
    assert "no such slot" in fire(shop, "f", slot + 1)
    # Even if nothing had been noted.
    assert shop.client.run(submit_slot(shop.client, shop.schedule("f"), slot)) == call
    assert shop.calls("f") == [call]


def test_where_more_is_due_than_can_be_started_only_later_slots_are(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firing, "BEHIND_MS", 100)
    shop.deploy(f=qmodal.Period(seconds=1))
    deployed = shop.schedule("f").deployed
    wait_until(lambda: now_of(shop) > deployed + 2100, what="it is behind")
    assert "later" in fire(shop, "f", deployed + 1000)
    latest = shop.schedule("f").cadence.latest(deployed, now_of(shop))
    assert latest is not None
    assert fire(shop, "f", latest).startswith("fc-")


def test_a_call_by_hand_comes_beside_the_slots(shop: Shop) -> None:
    shop.deploy(f=YEARLY)
    schedule = shop.schedule("f")
    calls = {shop.client.run(submit_now(shop.client, schedule, 1)) for _ in range(2)}
    assert set(shop.calls("f")) == calls
    assert len(calls) == 2
    assert shop.schedule("f").notes.run is None


def test_a_pause_outlives_a_deploy_and_leaves_its_slots_out(shop: Shop, client: Client) -> None:
    shop.deploy(f=qmodal.Cron("* * * * *"))
    assert client.run(client.schedules.hold(shop.app_id, "f", is_paused=True))
    assert not client.run(client.schedules.hold(shop.app_id, "f", is_paused=True))
    shop.deploy(f=qmodal.Cron("* * * * *"), g=YEARLY)
    assert shop.schedule("f").notes.is_paused
    slot = minute(shop)
    assert "paused" in fire(shop, "f", slot)
    assert client.run(client.schedules.hold(shop.app_id, "f", is_paused=False))
    assert not client.run(client.schedules.hold(shop.app_id, "f", is_paused=False))
    assert "over" in fire(shop, "f", slot - 60_000)
    assert shop.calls("f") == []


def test_a_deploy_begins_a_period_anew_also_if_nothing_has_changed(shop: Shop) -> None:
    shop.deploy(f=qmodal.Period(days=1))
    first = shop.schedule("f")
    wait_until(lambda: now_of(shop) > first.deployed, what="a moment has passed")
    shop.deploy(f=qmodal.Period(days=1))
    second = shop.schedule("f")
    assert second.deployed > first.deployed
    assert second.cadence.next(second.deployed) == second.deployed + 86_400_000
    assert first.cadence.identity != second.cadence.identity
    job = Firing(shop.client, ControlFigures())
    assert "no such" in job.fire(shop.app_id, "f", 1, first.cadence.identity)


def test_the_current_version_says_what_is_scheduled(shop: Shop, client: Client) -> None:
    from qmodal.runner.history import rollback

    shop.deploy(f=qmodal.Cron("* * * * *"))
    identity = shop.schedule("f").cadence.identity
    shop.deploy(f=None, g=YEARLY)
    slot = minute(shop)
    job = Firing(client, ControlFigures())
    assert "no such" in job.fire(shop.app_id, "f", slot, identity)
    record = client.run(client.apps.record(shop.app_id))
    assert record is not None
    client.run(rollback(client, record, 1))
    assert job.fire(shop.app_id, "f", minute(shop), identity).startswith("fc-")


def test_nothing_of_a_stopped_app_is_fired_or_kept(shop: Shop, client: Client) -> None:
    shop.deploy(f=qmodal.Cron("* * * * *"))
    identity = shop.schedule("f").cadence.identity
    fire(shop, "f", minute(shop))
    assert client.run(client.schedules.hold(shop.app_id, "f", is_paused=True))
    app_id = shop.app_id
    shop.stop()
    job = Firing(client, ControlFigures())
    assert "no such" in job.fire(app_id, "f", minute(shop), identity)
    assert not client.run(client.schedules.hold(app_id, "f", is_paused=True))
    assert client.run(client.schedules.look([app_id])) == {}


def test_an_app_that_only_runs_has_no_schedules(client: Client) -> None:
    from qmodal.client import client as clients
    from qmodal.services.control.schedules.table import Table
    from tests.integration.control_plane.schedules.conftest import idle

    app = qmodal.App("running")
    app.function(name="f", serialized=True, schedule=YEARLY)(idle)
    before = clients.use(client)
    try:
        with app.run():
            assert client.run(Table(client).all()) == {}
    finally:
        clients.use(before)


def test_what_cannot_be_scheduled_is_refused_before_anything_is_written(shop: Shop) -> None:
    with pytest.raises(InvalidError, match="no such day"):
        shop.deploy(f=qmodal.Cron("0 0 31 2 *"))
    assert shop.client.run(shop.client.apps.deployed()) == {}


def test_a_process_waits_for_its_server_and_ends_by_a_signal(settings: Settings) -> None:
    from dataclasses import replace

    nowhere = replace(settings, redis_url="unix:///nowhere/s")
    with control(nowhere) as process:
        assert process.stderr is not None
        assert b"waiting for the server" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_process_is_found_by_rq_and_leaves_no_trace_at_its_end(
    server: TestServer, settings: Settings, shop: Shop, client: Client
) -> None:
    from qmodal.services.control.jobs.backlog import processes

    with control(settings) as process:
        wait_until(lambda: client.run(processes(client.keys)), what="it is there", seconds=40)
        told = wait_until(lambda: rq_info(server, client), what="rq knows it", seconds=20)
        assert "schedules" in told
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert client.run(processes(client.keys)) == []


def rq_info(server: TestServer, client: Client) -> str:
    """What `rq info` says once it names two workers."""
    import os
    import sys
    from pathlib import Path

    run = subprocess.run(
        [Path(sys.executable).parent / "rq", "info", "--url", server.url, "-S", "json"],
        env={**os.environ, "RQ_KEY_PREFIX": client.keys.rq},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout if "2 workers" in run.stdout else ""


def test_a_server_of_another_key_is_refused(settings: Settings) -> None:
    from dataclasses import replace

    with run_server(server_binary()) as other:
        there = replace(settings, redis_url=other.url)
        mine = Client(there)
        mine.run(server_ms())
        mine.close()
        with control(replace(there, signing_key=b"z" * 32)) as process:
            _, said = process.communicate(timeout=30)
            assert process.returncode == 2, said
            assert b"key" in said
