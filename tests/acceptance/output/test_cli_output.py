"""What is shown of an app's output while it runs, and that its end is neither lost nor slow."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace

import pytest

from qmodal.client.client import Client
from qmodal.output import screen as screens
from qmodal.output.screen import showing
from qmodal.store.fleet import ContainerReport, WorkerReport
from qmodal.store.history.logs import LogChunk
from tests.support.waiting import wait_until

APP = "ap-" + "0" * 22
WORKER = "wk-output"
CONTAINER = ContainerReport(
    container="ta-output-1",
    pool="00" * 16,
    app=APP,
    function="f",
    label="f",
    number=1,
    state="ready",
    since=0,
)


@contextmanager
def shown(client: Client) -> Iterator[io.StringIO]:
    """What stands in for standard output while the app is followed."""
    with redirect_stdout(io.StringIO()) as screen, showing(client, APP):
        yield screen


@pytest.fixture
def busy(client: Client) -> Iterator[None]:
    """A worker runs a container of the app."""
    report = WorkerReport(
        worker=WORKER,
        host="box",
        pid=1,
        cpus=1.0,
        memory=1,
        max_containers=1,
        python="3.11",
        version="0",
    )
    client.run(client.fleet.enroll(report))
    client.run(client.fleet.renew(WORKER, {CONTAINER.container: CONTAINER}))
    yield
    client.run(client.fleet.retire(WORKER))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is not taken for the end, however long this process or the server has to wait."""
    monkeypatch.setattr(screens, "QUIET_SECONDS", 30.0)
    monkeypatch.setattr(screens, "DRAIN_SECONDS", 30.0)


def say(client: Client, text: str) -> None:
    chunk = LogChunk(CONTAINER.container, "stdout", text.encode())
    client.run(client.logs.append(APP, [chunk]))


def test_output_is_shown_as_it_comes_and_once(client: Client) -> None:
    say(client, "before\n")
    with shown(client) as screen:
        wait_until(lambda: screen.getvalue() == "before\n", what="what was there")
        say(client, "during\n")
        wait_until(lambda: screen.getvalue().endswith("during\n"), what="what came")
        say(client, "at the end\n")
    assert screen.getvalue() == "before\nduring\nat the end\n"


@pytest.mark.usefixtures("patient")
def test_an_app_without_containers_ends_at_once(client: Client) -> None:
    with shown(client) as screen:
        begin = time.monotonic()
    assert time.monotonic() - begin < screens.QUIET_SECONDS
    assert screen.getvalue() == ""


@pytest.mark.usefixtures("busy", "patient")
def test_the_last_words_of_a_container_are_waited_for(client: Client) -> None:
    def end() -> None:
        for number in range(3):
            say(client, f"last {number}\n")
        ended = replace(CONTAINER, state="ended")
        client.run(client.fleet.renew(WORKER, {CONTAINER.container: ended}))

    later = threading.Timer(0.2, end)
    with shown(client) as screen:
        later.start()
        begin = time.monotonic()
    assert time.monotonic() - begin < screens.QUIET_SECONDS
    later.join()
    assert screen.getvalue() == "last 0\nlast 1\nlast 2\n"


@pytest.mark.usefixtures("busy")
def test_a_container_that_does_not_end_is_not_waited_for(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screens, "DRAIN_SECONDS", 30.0)
    with shown(client) as screen:
        begin = time.monotonic()
    assert screens.QUIET_SECONDS <= time.monotonic() - begin < screens.DRAIN_SECONDS
    assert screen.getvalue() == ""


def test_nothing_is_shown_after_the_end(client: Client) -> None:
    with shown(client) as screen:
        pass
    say(client, "too late\n")
    # The thread's last read returns within its block, and must then keep silent.
    threads = [thread for thread in threading.enumerate() if thread.name == "output"]
    for thread in threads:
        thread.join(5)
    assert screen.getvalue() == ""
