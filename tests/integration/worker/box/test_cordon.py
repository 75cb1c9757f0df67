"""A box that is cordoned or drained, as its worker takes it: nothing new starts, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from qmodal.transport.operation import ask_one
from tests.support.boxes import QUICK_LEASE, Box, Fleet
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys

SOURCE = """
import os, time

def where(*rest):
    return os.environ["QMODAL_CONTAINER"]

def until_told(go, mark):
    open(mark, "w").close()
    while not os.path.exists(go):
        time.sleep(0.01)
    return os.environ["QMODAL_CONTAINER"]
"""


def test_a_box_that_is_cordoned_starts_nothing_until_it_is_uncordoned(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    boxes, run = fleet.client.boxes, fleet.client.run
    pool = fleet.publish(tmp_path / "src", SOURCE, {"where": None})["where"]
    before = fleet.ready(box, pool).container
    assert run(boxes.cordon(box.name))
    wait_until(lambda: run(boxes.cordon_of(box.name)).is_closed, what="it is cordoned")
    held_back = fleet.assign(box, pool)
    assert fleet.value(fleet.call(pool)) == before, "what it runs goes on"
    later = fleet.call(pool)
    assert fleet.value(later) == before
    assert fleet.report(box, held_back) is None
    assert run(boxes.uncordon(box.name))
    fleet.until(box, held_back, "ready")


def test_a_box_that_is_drained_finishes_what_it_runs_and_the_rest_runs_elsewhere(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    boxes, run = fleet.client.boxes, fleet.client.run
    pools = fleet.publish(tmp_path / "src", SOURCE, {"where": None, "until_told": None})
    busy, idle = fleet.ready(box, pools["until_told"]), fleet.ready(box, pools["where"])
    go = tmp_path / "go"
    running = fleet.begin(pools["until_told"], str(go))
    assert run(boxes.drain(box.name))
    assert fleet.until(box, idle.container, "ended").detail == ""
    report = fleet.report(box, busy.container)
    assert report is not None
    assert (report.state, report.leaving) == ("ready", True), "others take over, and it lives"
    waiting = fleet.call(pools["until_told"], str(go), str(tmp_path / "mark"))
    with fleet.box() as other:
        elsewhere = fleet.ready(other, pools["until_told"]).container
        wait_until((tmp_path / "mark").exists, what="what waits runs on the other box")
        go.touch()
        assert fleet.value(running) == busy.container
        assert fleet.value(waiting) == elsewhere
        fleet.until(box, busy.container, "ended")
        assert (
            fleet.value(fleet.call(pools["until_told"], str(go), str(tmp_path / "m"))) == elsewhere
        )


def test_a_worker_that_was_given_up_comes_back_as_it_was_drained(
    fleet: Fleet, tmp_path: Path
) -> None:
    client, boxes = fleet.client, fleet.client.boxes
    pool = fleet.publish(tmp_path / "src", SOURCE, {"where": None})["where"]
    with fleet.box(program=QUICK_LEASE) as box:
        idle = fleet.ready(box, pool).container
        assert client.run(boxes.drain(box.name))
        before = client.run(boxes.cordon_of(box.name))
        fleet.until(box, idle, "ended")  # so it has heard of it
        client.run(ask_one(b"ZREM", client.keys.workers, box.name))
        fresh = wait_until(lambda: set(fleet.workers()) - {box.name}, what="it comes back")
        assert client.run(boxes.cordon_of(fresh.pop())) == before
