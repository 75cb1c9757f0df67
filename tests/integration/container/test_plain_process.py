"""User code in a container gets what a plain Python process has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qmodal.spec.options import validated_options
from qmodal.wire.outcome import Outcome
from tests.support.boxes import Box, Fleet
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys

CENSUS = Path(__file__).parents[2] / "programs" / "census.py"
# What differs from a program that is run by `python -W error census.py`, and why.
WANTED = {
    "SIGINT": "a container that is interrupted gives its input back",
    "SIGUSR2": "interrupts the input that runs: time limits and cancelling",
    "RLIMIT_RTTIME": "a mark that is inherited: what it has started is known, and ends with it",
    "functions at exit": "what was put off for the server is sent at the end",
    "leads its session": "what it has started is ended with it",
    "descriptors": "the control socket, the record (twice: mapped) and the connection to the server",
    "frozen objects": "what a template has imported is not looked at by each container's collector",
    "safe_path": "`-P`: the worker's folder is not where modules come from",
    "program": "there is no program: the module is imported",
    "main module": "there is no program: the module is imported",
    "modules of the worker's program": "a template shares what its worker has imported",
    "paths": "the bundle is where the program's folder would be",
    "first path": "the bundle is where the program's folder would be",
    "stdout: buffering": "a container that is killed has said what it has printed",
    "stderr: buffering": "a container that is killed has said what it has printed",
    "stdin: text": "text is UTF-8 whatever the locale is",
    "stdout: text": "text is UTF-8 whatever the locale is, and cannot fail",
    "stderr: text": "text is UTF-8 whatever the locale is",
}


@pytest.fixture
def plain() -> dict[str, Any]:
    environ = {name: os.environ[name] for name in os.environ if name != "PYTHONUNBUFFERED"}
    ended = subprocess.run(
        [sys.executable, "-W", "error", CENSUS],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.mark.parametrize("fork", [True, False], ids=["forked", "in an interpreter of its own"])
def test_a_container_differs_from_a_plain_process_only_where_it_has_to(
    fleet: Fleet, box: Box, plain: dict[str, Any], tmp_path: Path, fork: bool
) -> None:
    options = {"look": validated_options(fork=fork)}
    pool = fleet.publish(tmp_path / "src", CENSUS.read_text(), options)["look"]
    fleet.ready(box, pool)
    found = fleet.value(fleet.call(pool))
    differs = {name: (plain[name], found[name]) for name in plain if plain[name] != found[name]}
    assert {name: differs[name] for name in differs.keys() - WANTED.keys()} == {}


SOURCE = """
import atexit, multiprocessing, os, signal, subprocess, sys, threading, time

def write_into_a_closed_pipe():
    readable, writable = os.pipe()
    os.close(readable)
    os.write(writable, b"x")

def write_to_a_program_that_has_ended():
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as ended:
        ended.wait()
        ended.stdin.write(b"x" * 1_000_000)

def mains():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return [main(), pool.apply(main)]

def main():
    found = vars(sys.modules["__main__"])
    return sorted(name for name in found if not name.startswith("__") and name != "spawn_main")

def zone():
    return time.strftime("%Z", time.localtime(0)), time.tzname[0]

def started():
    return "/added" in sys.path, sys.flags.utf8_mode

def leave_to_the_end(path):
    def say(text):
        with open(path, "a") as file:
            print(text, file=file)
    def last():
        time.sleep(0.05)
        say("thread")
    atexit.register(say, "at exit")
    threading.Thread(target=last).start()
    print("not written yet", end="", file=sys.__stdout__)
"""


def test_writing_to_what_nobody_reads_any_more_is_an_error_as_anywhere(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    names = ("write_into_a_closed_pipe", "write_to_a_program_that_has_ended")
    pools = fleet.publish(tmp_path / "src", SOURCE, dict.fromkeys(names))
    for pool in pools.values():
        fleet.ready(box, pool)
        outcome = fleet.outcome(fleet.call(pool))
        assert isinstance(outcome, Outcome), outcome
        assert b"BrokenPipeError" in outcome.payload


def test_a_container_ends_as_a_program_does(fleet: Fleet, box: Box, tmp_path: Path) -> None:
    """Threads end, then what was registered with `atexit` runs, and what was printed is there."""
    pool = fleet.publish(tmp_path / "src", SOURCE, {"leave_to_the_end": None})["leave_to_the_end"]
    report = fleet.ready(box, pool)
    fleet.value(fleet.call(pool, str(tmp_path / "said")))
    fleet.take_off(box, report.container)
    fleet.until(box, report.container, "ended")
    assert (tmp_path / "said").read_text() == "thread\nat exit\n"
    assert b"not written yet" in fleet.printed(report.app)


def test_variables_that_a_process_reads_at_its_start_hold(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    late = {"PYTHONPATH": "/added", "PYTHONUTF8": "1"}
    options = {
        "zone": validated_options(env={"TZ": "XYZ-3"}),
        "started": validated_options(env=late),
    }
    pools = fleet.publish(tmp_path / "src", SOURCE, options)
    report = fleet.ready(box, pools["started"])
    assert fleet.value(fleet.call(pools["started"])) == (True, 1)
    said = b"a process reads PYTHONPATH, PYTHONUTF8 only when it starts"
    wait_until(lambda: said in fleet.printed(report.app), what="it says why")
    fleet.ready(box, pools["zone"])
    assert fleet.value(fleet.call(pools["zone"])) == ("XYZ", "XYZ")


def test_the_main_module_is_not_that_of_the_worker(fleet: Fleet, box: Box, tmp_path: Path) -> None:
    """Else each process that multiprocessing spawns would import it."""
    pool = fleet.publish(tmp_path / "src", SOURCE, {"mains": None})["mains"]
    fleet.ready(box, pool)
    assert fleet.value(fleet.call(pool)) == [[], []]
