"""Once a cancel has returned, no input of its call starts, wherever it was."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from qmodal.store.calls import TOLD_SECONDS
from qmodal.transport.operation import ask_one
from tests.support.boxes import Box, Fleet, Pool
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys

SOURCE = """
import time

def work(path, seconds):
    began = time.monotonic_ns()
    with open(path, "a") as file:
        file.write(f"{began}\\n")
    time.sleep(seconds)
    return seconds
"""


@pytest.fixture
def pool(fleet: Fleet, tmp_path: Path) -> Pool:
    return fleet.publish(tmp_path / "src", SOURCE, {"work": None})["work"]


def cancel(fleet: Fleet, call: str) -> int:
    """As `FunctionCall.cancel` does; when it has returned."""
    running = fleet.client.run(fleet.client.calls.cancel(call))
    fleet.client.run(fleet.client.calls.tell_cancelled(running))
    return time.monotonic_ns()


def written(path: Path) -> str:
    """When the input began; empty if it did not, or was interrupted before it could say so."""
    return path.read_text() if path.exists() else ""


def test_nothing_starts_after_its_cancel_has_returned(
    fleet: Fleet, box: Box, pool: Pool, tmp_path: Path
) -> None:
    fleet.ready(box, pool)
    late = list[tuple[int, Path, int]]()
    for n in range(200):
        path = tmp_path / str(n)
        call, _ = fleet.call(pool, str(path), 0.001 * (n % 3))
        asked = time.monotonic_ns()
        returned = cancel(fleet, call)
        # A worker that has no processor for so long has not been heard, and nothing is promised.
        if returned - asked < TOLD_SECONDS * 1e9:
            late.append((n, path, returned))
    assert fleet.value(fleet.call(pool, str(tmp_path / "last"), 0)) == 0
    began = {n: int(text) - returned for n, path, returned in late if (text := written(path))}
    assert {n: after for n, after in began.items() if after > 0} == {}


def test_what_was_delivered_to_a_container_that_stands_still_does_not_start_after_its_cancel(
    fleet: Fleet, box: Box, pool: Pool, tmp_path: Path
) -> None:
    report = fleet.ready(box, pool)
    about = (b"CLIENT", b"LIST", b"ID", report.connection)
    wait_until(lambda: b"flags=b" in fleet.client.run(ask_one(*about)), what="it waits")
    os.kill(report.pid, signal.SIGSTOP)
    cancelled, kept = tmp_path / "cancelled", tmp_path / "kept"
    call, _ = fleet.call(pool, str(cancelled), 0)
    wait_until(lambda: fleet.pending(pool).get(report.container), what="delivered")
    cancel(fleet, call)
    os.kill(report.pid, signal.SIGCONT)
    assert fleet.value(fleet.call(pool, str(kept), 0)) == 0
    assert not cancelled.exists()


def test_a_worker_that_stands_still_keeps_nobody_who_cancels_waiting(
    fleet: Fleet, box: Box, pool: Pool, tmp_path: Path
) -> None:
    fleet.ready(box, pool)
    path = tmp_path / "runs"
    call, _ = fleet.call(pool, str(path), 600)
    wait_until(path.exists, what="it runs")
    os.kill(box.process.pid, signal.SIGSTOP)
    begin = time.monotonic()
    cancel(fleet, call)
    assert 0.9 < time.monotonic() - begin < 8
    os.kill(box.process.pid, signal.SIGCONT)
    assert fleet.value(fleet.call(pool, str(path), 0)) == 0
