"""A server that has been restarted and reads its data back: everybody waits, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.exception import ConnectionError
from qmodal.spec.options import validated_options
from qmodal.transport.connection import Address
from qmodal.transport.operation import Exchange, ask_one
from tests.support.boxes import Fleet
from tests.support.servers import Restarted, restarted_server, server_binary
from tests.support.store.bench import Bench
from tests.support.store.driving import DRIVERS, Background
from tests.support.waiting import wait_until

SOURCE = """
import pathlib, time

def plain(path, go):
    return once(path, go)

def once(path, go):
    with open(path, "ab") as file:
        file.write(b".")
    while not pathlib.Path(go).exists():
        time.sleep(0.01)
    return 7
"""


@pytest.fixture
def own() -> Iterator[Restarted]:
    """A server to restart."""
    with restarted_server(server_binary()) as made:
        yield made


@pytest.fixture
def settings(own: Restarted, tmp_path: Path) -> Settings:
    """Settings for that server."""
    return Settings(redis_url=own.url, signing_key=bytes(32), home=tmp_path)


@pytest.fixture
def background() -> Iterator[Background]:
    """A thread to wait in."""
    made = Background()
    yield made
    made.close()


@pytest.mark.parametrize("make", list(DRIVERS))
def test_whoever_talks_to_it_already_or_comes_now_waits(
    own: Restarted, client: Client, make: str, background: Background
) -> None:
    bench = Bench(client)
    known = DRIVERS[make](Address(own.url))
    known.run(ask_one(b"PING"))
    own.restart()
    fresh = DRIVERS[make](Address(own.url))
    submitted = background.start(known.run, client.calls.submit(bench.submission()))
    asked = Background()
    answer = asked.start(fresh.run, client.fleet.workers())
    wait_until(lambda: own.refusals() > 8, what="both have tried again")
    assert not (submitted.done() or answer.done())
    own.loaded()
    submitted.result(5)
    assert answer.result(5) == {}
    assert bench.inflight() == 1
    for each in (known, fresh, asked):
        each.close()


@pytest.mark.parametrize("make", list(DRIVERS))
def test_whoever_has_no_patience_is_told_what_it_does(own: Restarted, make: str) -> None:
    own.restart()
    driver = DRIVERS[make](Address(own.url))
    with pytest.raises(ConnectionError, match=r"is not ready.*LOADING"):
        driver.exchange(Exchange(((b"GET", b"x"),), patience=0.05))
    driver.later((b"PING",))
    driver.close()


@pytest.mark.timeout(60)
def test_containers_keep_what_has_ended_and_settle_it_later(
    own: Restarted, client: Client, tmp_path: Path
) -> None:
    fleet = Fleet(client)
    once = validated_options(delivery="at_most_once")
    pools = fleet.publish(tmp_path / "src", SOURCE, {"once": once, "plain": None})
    go = tmp_path / "go"
    with fleet.box() as box:
        calls = {}
        for name, pool in pools.items():
            fleet.ready(box, pool)
            path = tmp_path / f"{name}.runs"
            calls[path] = fleet.call(pool, str(path), str(go))
            wait_until(path.exists, what="it runs")
        own.restart()
        before = own.refusals()
        go.touch()
        # The worker and both containers try again and again.
        wait_until(lambda: own.refusals() > before + 30, what="they have tried", seconds=20)
        own.loaded()
        assert [fleet.value(called) for called in calls.values()] == [7, 7]
        assert [path.read_bytes() for path in calls] == [b".", b"."]
        assert set(fleet.workers()) == {box.name}


def run(settings: Settings, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "qmodal", *command],
        env={**settings.to_environ(), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_commands_that_start_meanwhile_say_so_once_and_wait(
    own: Restarted, client: Client, settings: Settings, tmp_path: Path
) -> None:
    client.run(ask_one(b"PING"))
    program = tmp_path / "program.py"
    program.write_text("import qmodal\napp = qmodal.App('a')\n\n@app.function()\ndef f(): ...\n")
    own.restart()
    started = [run(settings, "app", "list"), run(settings, "deploy", str(program))]
    lines = []
    for each in started:
        assert each.stderr is not None
        lines.append(each.stderr.readline())
    assert all("is not ready" in line and "LOADING" in line for line in lines)
    own.loaded()
    for each in started:
        _, err = each.communicate(timeout=20)
        assert each.returncode == 0, err
        assert "not ready" not in err


def test_a_worker_that_starts_meanwhile_enrolls_when_it_can(
    own: Restarted, client: Client, settings: Settings
) -> None:
    assert client.run(client.fleet.workers()) == {}
    own.restart()
    worker = run(replace(settings), "worker")
    try:
        before = own.refusals()
        wait_until(lambda: own.refusals() > before + 3, what="it has tried")
        own.loaded()
        wait_until(lambda: client.run(client.fleet.workers()), what="it enrolls")
    finally:
        worker.terminate()
        _, err = worker.communicate(timeout=10)
    assert worker.returncode == 0, err
    assert "Traceback" not in err
