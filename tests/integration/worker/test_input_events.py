"""What a worker and a sweeper say of inputs: which one, of which call, in which attempt."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from qmodal.client.client import Client
from qmodal.spec.options import validated_options
from qmodal.store.entries import TakenBack
from qmodal.store.history.accounts import Accounts
from qmodal.store.history.statistics import Series
from qmodal.store.watch.sweeper import LOST_BOX, Sweeper
from qmodal.telemetry.events import FIELDS
from qmodal.transport.operation import ask_one
from qmodal.wire.ids import input_id, pool_id
from tests.support.boxes import Fleet
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys
SOURCE = """
import os, signal, time

def die(x):
    os.kill(os.getpid(), signal.SIGKILL)

def sleep(seconds):
    time.sleep(seconds)

def stubborn(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            time.sleep(0.1)
        except BaseException:
            continue
"""
Line = dict[str, Any]


def until(
    lines: list[Line], read: Callable[[], str], is_it: Callable[[Line], bool], what: str
) -> Line:
    """The first line of JSON of which that is so; `lines` gets all that were read."""

    def found() -> Line | None:
        lines.extend(json.loads(each) for each in read().splitlines() if each.startswith("{"))
        return next((line for line in lines if is_it(line)), None)

    line = wait_until(found, what=what, seconds=40, pause=0.05)
    assert line is not None
    return line


def is_of(call: str, attempt: int, line: Line) -> bool:
    """Whether it is about that attempt of the call's input."""
    return line.get("call") == call and line.get("attempt") == attempt


def test_a_worker_names_the_inputs_that_it_interrupts_takes_back_and_gives_up(
    fleet: Fleet, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = {
        "die": None,
        "sleep": validated_options(timeout=1),
        "stubborn": validated_options(timeout=1),
    }
    pools = fleet.publish(tmp_path / "src", SOURCE, options)
    lines: list[Line] = []

    def read() -> str:
        return capfd.readouterr().err

    with fleet.box("--log-json") as box:
        fleet.ready(box, pools["sleep"])
        slow, _ = fleet.call(pools["sleep"], 60.0)
        stopped = until(
            lines, read, lambda line: line.get("event") == "input.interrupted", "it is interrupted"
        )
        assert (stopped["call"], stopped["input"]) == (slow, input_id(slow, 0))
        assert (stopped["attempt"], stopped["function"]) == (1, "sleep")
        assert stopped["worker"] == box.name
        fleet.ready(box, pools["stubborn"])
        resists, _ = fleet.call(pools["stubborn"], 60.0)
        fleet.ready(box, pools["die"])
        deadly, _ = fleet.call(pools["die"], 1)
        back = until(
            lines, read, lambda line: line.get("event") == "input.redelivered", "it is given back"
        )
        assert (back["call"], back["input"], back["attempt"]) == (deadly, input_id(deadly, 0), 1)
        assert back["container"].startswith("ta-")
        for attempt in (2, 3):
            fleet.assign(box, pools["die"])
            until(lines, read, partial(is_of, deadly, attempt), f"attempt {attempt} has ended")
        (ended,) = filter(partial(is_of, deadly, 3), lines)
        assert (ended["event"], ended["level"]) == ("input.lost", "warning")
        given_up = until(
            lines, read, lambda line: line.get("event") == "input.timed_out", "it is given up"
        )
        assert (given_up["call"], given_up["function"]) == (resists, "stubborn")


def test_inputs_of_a_lost_box_are_named_and_counted(
    fleet: Fleet, client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pool = fleet.publish(tmp_path / "src", SOURCE, {"sleep": None})["sleep"]
    calls = [fleet.call(pool, 1.0)[0] for _ in range(2)]
    command = client.pools.claim_command(pool, "ta-gone-1", count=2, block=None)
    client.run(ask_one(*command))
    with caplog.at_level(logging.INFO):
        client.run(Sweeper(client.keys).audit())
    told = [
        vars(record)[FIELDS] for record in caplog.records if "runs again" in record.getMessage()
    ]
    assert {each["call"] for each in told} == set(calls)
    assert {each["reason"] for each in told} == {LOST_BOX}
    assert {each["function"] for each in told} == {"sleep"}
    counted = client.run(client.statistics.read([Series("main", "shop", "sleep")]))
    assert counted[Series("main", "shop", "sleep")] == {"redeliveries": 2}


def test_counts_of_a_pool_that_nobody_knows_are_left_out(client: Client) -> None:
    accounts = Accounts(client.keys)
    assert client.run(accounts.place(pool_id("ap-unknown", "f", b""))) == ("", "")
    client.run(accounts.add("ap-unknown", "f", {"purged": 3}))
    assert client.run(client.statistics.series()) == []


def test_a_reply_of_a_foreign_call_is_told_as_it_is() -> None:
    assert TakenBack.parse([b"fc-\xff", b"3", b"1", b"0", 1]) == ("fc-\ufffd", 3, 2, True)
