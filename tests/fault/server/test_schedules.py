"""Control processes that are killed, and a server that comes back with its data: each slot is one call."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.schedules import Stand, deploy, judge, now_ms
from qmodal.client.client import Client
from tests.support.servers import no_process_left
from tests.support.stacks import short_folder
from tests.support.waiting import wait_until

SCHEDULES = 20


@pytest.fixture
def stand() -> Iterator[Stand]:
    """Two control processes on a server that keeps its data."""
    with no_process_left(), short_folder() as folder:
        made = Stand(Path(folder), 2)
        made.start()
        try:
            yield made
        finally:
            made.stop()


@pytest.mark.timeout(180)
def test_no_slot_has_two_calls_and_none_is_lost_when_a_process_is_killed(stand: Stand) -> None:
    client = Client(stand.settings)
    app_id = deploy(client, SCHEDULES)
    wait_until(lambda: judge(client, app_id, SCHEDULES, 0, now_ms()).calls, what="it begins")
    first = now_ms() + 1000
    time.sleep(2)  # some slots before anything happens
    stand.kill_control(0)
    time.sleep(2)
    killed = now_ms()
    stand.restart_server()
    back = now_ms() + 1000
    wait_until(
        lambda: judge(client, app_id, SCHEDULES, back, back + 2000).calls >= 2 * SCHEDULES,
        what="it goes on",
        seconds=60,
    )
    found = judge(client, app_id, SCHEDULES, first, killed - 1000)
    assert (found.calls, found.missed) == (found.slots, [])
    everything = judge(client, app_id, SCHEDULES, 0, now_ms())
    assert (everything.twice, everything.strange) == (0, 0)
    said = (stand.folder / "control.log").read_text()
    assert "Traceback" not in said
    # One line of each of the two workers of each process, and of the ticker, and not one for each attempt.
    assert said.count("waits for the server") <= 4
    client.close()
