"""`qmodal call`: one failed call among ten thousand is found, shown and run again, and calls under way, too."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import qmodal
from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.exception import FunctionTimeoutError, WorkerLost
from qmodal.transport.operation import ask
from tests.acceptance.finding.commands import Commands
from tests.support.commands import environ
from tests.support.waiting import wait_until


def function(name: str) -> Any:
    return qmodal.Function.from_name("shop", name)


def test_one_failed_call_among_ten_thousand_is_found_shown_and_run_again(shop: Commands) -> None:
    results = list(
        function("invert").map(range(10_000), kwargs={"digits": 2}, return_exceptions=True)
    )
    assert [at for at, each in enumerate(results) if isinstance(each, Exception)] == [4711]
    assert list(qmodal.Function.from_name("shop", "invert").map([1], kwargs={"digits": 2})) == [0.0]

    (row,) = shop.plain("call", "list", "--failed", "--app", "shop", "--function", "invert")
    assert (row["app"], row["function"], row["state"], row["failed"]) == (
        "shop",
        "invert",
        "failed",
        1,
    )
    assert row["reason"] == "ZeroDivisionError: division by zero"
    assert shop.plain("call", "list", "--failed", "--function", "late") == []

    shown = shop.say("call", "show", row["call"])
    assert "input 4711  error: ZeroDivisionError: division by zero" in shown
    assert "arguments  4711, digits=2" in shown
    assert "return round(1 / (x - 4711), digits)" in shown
    (details,) = shop.plain("call", "show", row["call"])["inputs"]
    assert details["input"] == f"in-{row['call'][3:]}-4711"
    assert details["traceback"].startswith("Traceback (most recent call last):")

    said = shop.say("call", "retry", row["call"])
    new = re.fullmatch(rf"in-{row['call'][3:]}-4711 runs again as (fc-\w+)\n", said)
    assert new is not None, said
    with pytest.raises(ZeroDivisionError):
        qmodal.FunctionCall.from_id(new[1]).get(timeout=30)
    again = shop.plain("call", "show", new[1])
    assert again["parent"] == details["input"]
    assert again["inputs"][0]["arguments"] == "4711, digits=2"
    assert shop.plain("call", "show", row["call"])["children"] == [{"index": 4711, "call": new[1]}]


def test_calls_under_way_are_listed_shown_and_cancelled(shop: Commands, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    call = function("wait_for").spawn(str(gate), number=7)

    def running() -> Any:
        return shop.plain("call", "list", "--running", "--function", "wait_for")

    (row,) = wait_until(running, what="a call that runs")
    assert (row["call"], row["running"], row["waiting"]) == (call.object_id, 1, 0)
    assert row["container"].startswith("ta-")
    shown = shop.say("call", "show", call.object_id[:-1])  # the beginning of an id
    assert "input 0  running" in shown
    assert f"arguments  {str(gate)!r}, number=7" in shown
    assert shop.say("call", "cancel", call.object_id, "-y").startswith(
        f"Cancelled {call.object_id}: 1 "
    )
    assert (
        shop.say("call", "cancel", call.object_id, "-y") == f"{call.object_id} has ended already\n"
    )
    (row,) = shop.plain("call", "list", "--function", "wait_for")
    assert (row["call"], row["state"]) == (call.object_id, "cancelled")


def test_results_are_shown_where_they_are_plain(shop: Commands) -> None:
    call = qmodal.Cls.from_name("shop", "Model")(size=2).predict.spawn(9)
    assert call.get(timeout=30) == 4
    shown = shop.plain("call", "show", call.object_id)
    assert (shown["function"], shown["settled"]) == ("Model(size=2)", 1)
    assert (shown["inputs"][0]["state"], shown["inputs"][0]["result"]) == ("succeeded", "4")
    (row,) = shop.plain("call", "list", "--function", "Model")
    assert (row["call"], row["state"]) == (call.object_id, "done")


def test_nothing_is_unpickled_to_show_it(shop: Commands, settings: Settings) -> None:
    """Whoever unpickles such an argument makes a file: the container may, and no command does."""
    made = shop.folder / "made"
    with pytest.raises(LookupError):
        function("take").remote(Trap(str(made)))
    made.unlink()
    (row,) = shop.plain("call", "list", "--failed", "--function", "take")
    (details,) = shop.plain("call", "show", row["call"])["inputs"]
    assert re.fullmatch(r"<pickled(?: with code)?, \d+ bytes>", details["arguments"])
    for argv in (("show", row["call"]), ("retry", row["call"]), ("list",)):
        code = LOADED.format(argv=["call", *argv])
        done = subprocess.run(
            [sys.executable, "-P", "-c", code],
            env=environ(settings),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        assert not made.exists() or argv[0] != "show"
    wait_until(made.exists, what="the container that runs it again")


LOADED = """
import sys
from qmodal.cli import main
try:
    main({argv!r})
except SystemExit as end:
    assert not end.code, end.code
assert not {{"cloudpickle", "qmodal.wire.pickled"}} & set(sys.modules)
"""


class Trap:
    """Makes a file where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


def test_a_time_limit_and_a_lost_container_are_failures(shop: Commands) -> None:
    with pytest.raises(FunctionTimeoutError):
        function("late").remote()
    with pytest.raises(WorkerLost):
        function("die").remote()
    (late,) = shop.plain("call", "list", "--failed", "--function", "late")
    (lost,) = shop.plain("call", "list", "--failed", "--function", "die")
    assert "1 s" in late["reason"]
    assert "died" in lost["reason"] or "killed" in lost["reason"], lost
    (details,) = shop.plain("call", "show", lost["call"])["inputs"]
    assert (details["state"], details["lost"]) == ("lost", 3)


def test_inputs_with_large_arguments_are_run_again_until_these_are_gone(
    shop: Commands, client: Client, tmp_path: Path
) -> None:
    gate, loads = tmp_path / "gate", [bytes(n * 100_000) for n in (1, 2, 3)]
    failed = function("weigh").map([str(gate)] * 3, loads, return_exceptions=True)
    assert [type(each) for each in failed] == [FileNotFoundError] * 3
    (row,) = shop.plain("call", "list", "--failed", "--function", "weigh")
    assert f"arguments  {str(gate)!r}, b'" in shop.say("call", "show", row["call"])
    gate.touch()
    said = shop.say("call", "retry", row["call"], "-y")
    again = re.findall(r"runs again as (fc-\w+)\n", said)
    results = [qmodal.FunctionCall.from_id(each).get(timeout=30) for each in again]
    assert sorted(results) == [100_000, 200_000, 300_000]
    assert shop.say("call", "retry", row["call"], "--index", "1").startswith("in-"), "once more"

    client.run(ask((b"UNLINK", client.keys.kept_arguments(row["call"], 2))))  # as the bound does
    refused = shop.refused("call", "retry", row["call"], "--index", "2")
    assert (
        "-2 cannot be run again: its arguments were larger than 32 KiB, and had to make room"
        in refused
    )
    assert "QMODAL_FAILED_ARGUMENTS_MIB" in refused
    assert "<its arguments were larger" in shop.say("call", "show", row["call"], "--index", "2")

    shop.say("app", "stop", "shop", "-y")
    kept = client.kept_arguments
    wait_until(
        lambda: not client.run(kept.read(row["call"], 0)), what="nothing is kept of a stopped app"
    )


def test_what_cannot_be_run_again_says_why(shop: Commands) -> None:
    with pytest.raises(ValueError, match="enough"):
        list(function("numbers").remote_gen(3))
    (row,) = shop.plain("call", "list", "--failed", "--function", "numbers")
    assert "numbers is a generator" in shop.refused("call", "retry", row["call"])
    with pytest.raises(ZeroDivisionError):
        function("invert").remote(4711)
    (row,) = shop.plain("call", "list", "--failed", "--function", "invert")
    shop.say("app", "stop", "shop", "-y")
    assert "app shop has stopped" in shop.refused("call", "retry", row["call"])


def test_wrong_names_and_ids_are_refused_with_what_to_do(shop: Commands) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            function("invert").remote(4711)
    refused = shop.refused
    assert "There is no app 'nosuch'" in refused("call", "list", "--app", "nosuch")
    unknown = refused("call", "list", "--function", "nosuch")
    assert "There is no function 'nosuch' in any app; known are: " in unknown
    assert "'5' is not the id of a call" in refused("call", "show", "5")
    assert "No call begins with 'fc-zz'" in refused("call", "show", "fc-zz")
    assert "2 calls begin with 'fc-': " in refused("call", "show", "fc-")
    nothing = "fc-00" + "A" * 20
    assert f"Nothing is known of call {nothing}" in refused("call", "show", nothing)
    assert f"Nothing is known of call {nothing}" in refused("call", "retry", nothing)
    assert "has expired, or never existed" in refused("call", "cancel", nothing)
    assert "'soon' is no time; give 90s" in refused("call", "list", "--since", "soon")
    (row, *_) = shop.plain("call", "list", "--failed", "--since", "10m")
    assert "Nothing is known of an input 3" in refused("call", "show", row["call"], "--index", "3")
    assert shop.plain("call", "list", "--failed", "--since", "2999-01-01") == []
