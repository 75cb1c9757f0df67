"""A server on a Unix socket is stopped and started again: containers live through it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmodal.client.client import Client
from qmodal.config import Settings
from tests.support.boxes import Fleet
from tests.support.servers import restartable_server
from tests.support.stacks import short_folder
from tests.support.waiting import wait_until

SOURCE = """
import os, time

def nap(path, seconds):
    with open(path, "a") as file:
        print(os.getpid(), file=file)
    time.sleep(seconds)
    return os.getpid()

def pid():
    return os.getpid()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


def test_containers_live_on_and_nothing_runs_twice(folder: Path, tmp_path: Path) -> None:
    with restartable_server(folder) as server:
        client = Client(_settings(server.url, tmp_path))
        fleet = Fleet(client)
        with fleet.box() as box:
            pools = fleet.publish(tmp_path / "src", SOURCE, dict.fromkeys(("nap", "pid")))
            idle, busy = fleet.ready(box, pools["pid"]), fleet.ready(box, pools["nap"])
            started = tmp_path / "started"
            napping = fleet.call(pools["nap"], str(started), 1)
            wait_until(started.exists, what="it runs")
            server.restart()
            assert fleet.value(napping) == busy.pid
            assert fleet.value(fleet.call(pools["pid"])) == idle.pid
            assert started.read_text() == f"{busy.pid}\n"
            reports = [fleet.report(box, each.container) for each in (idle, busy)]
            assert [each and each.pid for each in reports] == [idle.pid, busy.pid]
        client.close()


def _settings(url: str, home: Path) -> Settings:
    return Settings(redis_url=url, signing_key=secrets.token_bytes(32), home=home)
