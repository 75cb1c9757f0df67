"""`qmodal up` as the server of a person's machine: found by itself, kept from start to start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import psutil
import pytest
import redis

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.embedded.home import running_address
from qmodal.embedded.metrics_ports import METRICS_PROCESSES
from qmodal.store.apps import CLIENT_TTL_MS
from qmodal.transport.operation import ask_one
from tests.support.installed import QMODAL, Desk, desk
from tests.support.servers import leftovers
from tests.support.stacks import family, wait_until_gone
from tests.support.waiting import wait_until
from tests.support.web.scraping import fetch, free_ports

PROGRAM = """
import time
from pathlib import Path
import qmodal

app = qmodal.App("mine")

@app.function()
def square(x: int) -> int:
    return x * x

@app.function(max_containers=1)
def nap(seconds: float, marker: str) -> float:
    Path(marker).touch()
    time.sleep(seconds)
    return seconds

@app.local_entrypoint()
def main(marker: str = "") -> None:
    print(square.remote(3), flush=True)
    if marker:
        nap.remote(60, marker)

if __name__ == "__main__":
    with app.run():
        print(sum(square.map(range(10))))
"""
CALL = "import qmodal; print(qmodal.Function.from_name('mine', 'square').remote(12))"
SPAWN = """
import sys, qmodal
nap = qmodal.Function.from_name("mine", "nap")
print(*(nap.spawn(0.4, sys.argv[1]).object_id for _ in range(5)))
"""
COLLECT = """
import sys, qmodal
print([qmodal.FunctionCall.from_id(call).get(timeout=30) for call in sys.argv[1:]])
"""
# The server, the autoscaler, the worker and the control process, and what starts them.
STACK = 5


@contextmanager
def up(here: Desk, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`qmodal up` from this desk; SIGTERM at the end, and nothing of it lives on."""
    with here.start(QMODAL, "up", *options) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("qmodal is up")
        members = family(process.pid, STACK)
        yield process
        members += [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=20)
        assert process.returncode == 0, rest
        assert rest.endswith("what it held is kept for the next start\n")
        wait_until_gone(members, seconds=15)


@pytest.fixture(scope="module")
def metrics_port() -> int:
    """The first of some ports in a row that nothing listens on."""
    return free_ports(len(METRICS_PROCESSES))


@pytest.fixture(scope="module")
def here(metrics_port: int) -> Iterator[Desk]:
    """A person's machine, with `qmodal up` in the background."""
    with desk() as made:
        (made.base / "mine.py").write_text(PROGRAM)
        with up(made, "--metrics-port", str(metrics_port)):
            yield made
        made.wait_until_empty()


@pytest.fixture
def client(here: Desk) -> Iterator[Client]:
    """A client that looks from the side."""
    found = running_address(here.base / ".qmodal")
    assert found is not None
    made = Client(Settings(redis_url=found[0], signing_key=found[1]))
    yield made
    made.close()


def listed(here: Desk, *what: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(here.run(QMODAL, *what, "list", "--json"))
    return rows


def test_every_kind_of_program_finds_it(here: Desk) -> None:
    assert here.run(QMODAL, "run", "mine.py") == "9\n"
    assert here.run(QMODAL.with_name("python"), "mine.py") == "285\n"
    assert "Deployed mine version 1" in here.run(QMODAL, "deploy", "mine.py")
    assert here.python(CALL) == "144"
    assert "mine" in [row["name"] for row in listed(here, "app")]
    here.run(QMODAL, "app", "stop", "-y", "mine")
    assert listed(here, "app") == []


def test_the_doctor_finds_nothing_wrong(here: Desk) -> None:
    wait_until(lambda: listed(here, "worker"), what="the worker is there")
    report = here.run(QMODAL, "doctor")
    assert "a running `qmodal up`" in report
    assert "fail" not in report
    assert "1 with a lease" in report


def test_each_of_its_processes_serves_metrics(here: Desk, metrics_port: int) -> None:
    shown = [
        *("qmodal_autoscaler_leads", "qmodal_box_info"),
        *("qmodal_gateway_streams_open", "qmodal_control_first"),
    ]
    for port, name in enumerate(shown, metrics_port):
        wait_until(partial(shows, port, name), what=f"{name} on port {port}", seconds=60)


def shows(port: int, name: str) -> bool:
    """Whether that metric is served there."""
    return name in fetch(port, "/metrics")[1]


def test_ports_for_metrics_that_are_taken_are_said_before_anything_starts(
    here: Desk, metrics_port: int
) -> None:
    with desk() as other:
        for first, said in ((metrics_port - 1, "need port"), (65_535, "choose one up to")):
            with other.start(QMODAL, "up", "--metrics-port", str(first)) as process:
                out, _ = process.communicate(timeout=30)
            assert process.returncode == 2
            assert said in out
        other.wait_until_empty()


def test_a_run_that_is_killed_leaves_a_healthy_stack_and_its_app_goes(
    here: Desk, client: Client
) -> None:
    marker = here.base / "marker"
    with here.start(QMODAL, "run", "mine.py", "--marker", str(marker)) as running:
        wait_until(marker.exists, what="the nap runs", seconds=20)
        row = wait_until(lambda: napping(here), what="its box has said so")
        assert row["inputs"] == 1
        os.kill(running.pid, signal.SIGKILL)
        running.wait(5)
    app = client.keys.app(str(row["app"]))
    assert 0 < client.run(ask_one(b"PTTL", app)) <= CLIENT_TTL_MS
    # Nobody renews it any more; instead of half a minute, its last moment.
    client.run(ask_one(b"PEXPIRE", app, 1))
    wait_until(
        lambda: listed(here, "container") == [], what="its containers have ended", seconds=20
    )
    assert here.run(QMODAL, "run", "mine.py") == "9\n"
    assert listed(here, "app") == []
    wait_until(lambda: forgotten(client), what="nothing is left of both")


def napping(here: Desk) -> dict[str, object]:
    """The row of the container that naps, once it says that it is ready; empty until then."""
    rows = [row for row in listed(here, "container") if row["pool"] == "nap"]
    return next((row for row in rows if row["state"] == "ready"), {})


def forgotten(client: Client) -> bool:
    with redis.Redis.from_url(client.settings.redis_url or "") as plain:
        left = leftovers(plain, client.settings.prefix)
    return not [key for key in left if "{fleet}:worker" not in key]


def test_a_second_one_is_refused_in_one_line(here: Desk) -> None:
    with here.start(QMODAL, "up") as second:
        said, _ = second.communicate(timeout=10)
    assert second.returncode == 2
    assert len(said.splitlines()) == 1


def test_what_was_accepted_before_a_stop_is_done_after_the_next_start() -> None:
    with desk() as here:
        (here.base / "mine.py").write_text(PROGRAM)
        marker = here.base / "marker"
        with up(here):
            here.run(QMODAL, "deploy", "mine.py")
            calls = here.python(SPAWN, str(marker)).split()
            wait_until(marker.exists, what="the first one runs")
        assert running_address(here.base / ".qmodal") is None
        with up(here):
            assert here.python(COLLECT, *calls) == str([0.4] * 5)
            assert here.python(CALL) == "144"
        here.wait_until_empty()


def test_without_it_nothing_is_found() -> None:
    with desk() as alone:
        (alone.base / "mine.py").write_text(PROGRAM)
        with alone.start(QMODAL, "app", "list") as process:
            said, _ = process.communicate(timeout=10)
    assert process.returncode == 2
    assert "start `qmodal up`" in said
