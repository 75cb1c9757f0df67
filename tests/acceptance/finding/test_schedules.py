"""Schedules as people use them: an app is deployed where `qmodal up` runs, and its functions run by themselves."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.installed import QMODAL, Desk, desk
from tests.support.waiting import wait_until

PROGRAM = """
import qmodal

app = qmodal.App("reports")


@app.function(schedule=qmodal.Period(seconds=1), retries=1)
def tick() -> None:
    print("it ticks")


@app.function(schedule=qmodal.Cron("0 6 * * mon-fri", timezone="Europe/Berlin"))
def morning() -> str:
    return "good morning"
"""
FETCH = "import sys, qmodal; print(qmodal.FunctionCall.from_id(sys.argv[1]).get(timeout=40))"


def listed(here: Desk) -> dict[str, dict[str, Any]]:
    # Behind them there may be a line on stderr: nobody starts them yet.
    rows, _ = json.JSONDecoder().raw_decode(here.run(QMODAL, "schedule", "list", "--json"))
    return {row["function"]: row for row in rows}


@pytest.fixture
def here() -> Iterator[Desk]:
    """A machine on which `qmodal up` runs, and an app with schedules is deployed."""
    with desk() as made, made.start(QMODAL, "up", "--no-web") as up:
        assert up.stdout is not None
        assert up.stdout.readline().startswith("qmodal is up")
        (made.base / "reports.py").write_text(PROGRAM)
        made.run(QMODAL, "deploy", "reports.py")
        yield made
        made.run(QMODAL, "app", "stop", "-y", "reports")
        assert listed(made) == {}
        up.send_signal(signal.SIGTERM)
        up.communicate(timeout=30)
        assert up.returncode == 0
        made.wait_until_empty()


@pytest.mark.timeout(180)
def test_a_deployed_function_runs_by_itself_until_it_is_paused(here: Desk) -> None:
    wait_until(lambda: listed(here)["tick"]["last_run"], what="it ran", seconds=60)
    rows = listed(here)
    assert rows["tick"]["last_call"].startswith("fc-")
    assert rows["morning"]["last_run"] is None
    assert rows["morning"]["schedule"] == "0 6 * * mon-fri Europe/Berlin"
    wait_until(
        lambda: "it ticks" in here.run(QMODAL, "app", "logs", "reports"),
        what="its output is there",
        seconds=60,
    )
    assert "Paused: reports.tick" in here.run(QMODAL, "schedule", "pause", "reports", "tick")
    assert listed(here)["tick"]["next_run"] is None
    here.run(QMODAL, "deploy", "reports.py")
    assert listed(here)["tick"]["paused"]
    assert "Resumed" in here.run(QMODAL, "schedule", "resume", "reports", "tick")
    assert "Already" in here.run(QMODAL, "schedule", "resume", "reports", "tick")
    call = here.run(QMODAL, "schedule", "run", "reports", "morning").strip()
    assert here.python(FETCH, call) == "good morning"
    told = here.run(QMODAL, "control", "status")
    assert "dead-letters" in told
    assert "Control processes: ct-" in told
    assert json.loads(here.run(QMODAL, "control", "usage", "--json"))
