"""A worker process: it starts what is assigned, serves calls, keeps limits, and leaves in order."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from qmodal.spec.options import validated_options
from qmodal.spec.retries import Retries
from qmodal.transport.operation import ask_one
from qmodal.wire.outcome import Outcome
from tests.support.boxes import PROGRAM, Box, Fleet
from tests.support.servers import no_process_left
from tests.support.stacks import is_gone
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys

SOURCE = """
import os, subprocess, sys, time

print("imported by", os.getpid())

def add(x, y):
    return x + y

def whoami():
    return [os.getpid(), os.getppid(), os.environ.get("QMODAL_CONTAINER"), os.environ.get("COLOR")]

def sleepy(seconds, mark=None):
    if mark:
        open(mark, "w").close()
    time.sleep(seconds)
    return seconds

def until_told(go, mark):
    open(mark, "w").close()
    while not os.path.exists(go):
        time.sleep(0.01)
    return "told"

def stubborn(seconds):
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            while time.monotonic() < ends:
                time.sleep(0.01)
        except BaseException:
            pass
    return seconds

def fail(path):
    with open(path, "a") as file:
        file.write(".")
    raise ValueError("no luck")

def say(text):
    print(text)
    print("half a line", end="", flush=True)

def daemon():
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    return child.pid

def slow_start():
    pass
"""
BROKEN = "import os\nraise RuntimeError('no ' + 'luck')\ndef add(x, y): pass\n"
# From the interrupt of an input to the end of its container.
STRICT = (
    "from qmodal_workers.agent import watchdog; watchdog.INTERRUPT_GRACE_SECONDS = 0.5; " + PROGRAM
)
THREADED = """
import threading, time
threading.Thread(target=time.sleep, args=(600,), daemon=True, name="ticker").start()
def add(x, y): return x + y
"""


def test_it_starts_what_is_assigned_and_serves_calls(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"add": None})
    report = fleet.ready(box, pools["add"])
    assert fleet.value(fleet.call(pools["add"], 2, 3)) == 5
    assert (report.function, report.label, report.number) == ("add", "add", 1)
    assert report.pid
    assert report.connection
    assert report.start_ms


def test_containers_are_forked_from_one_template_and_are_children_of_the_worker(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"whoami": None})
    first, second = (fleet.ready(box, pools["whoami"]) for _ in range(2))
    pid, parent, name, _ = fleet.value(fleet.call(pools["whoami"]))
    assert parent == box.process.pid
    assert (pid, name) in {(each.pid, each.container) for each in (first, second)}
    log = wait_until(lambda: fleet.printed(first.app), what="the output is there")
    assert log.count(b"imported by") == 1


def test_a_function_that_must_not_be_forked_gets_its_own_interpreter(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    options = validated_options(fork=False, env={"COLOR": "red"})
    pools = fleet.publish(tmp_path / "src", SOURCE, {"whoami": options})
    report = fleet.ready(box, pools["whoami"])
    pid, parent, _, color = fleet.value(fleet.call(pools["whoami"]))
    assert (pid, parent, color) == (report.pid, box.process.pid, "red")
    assert "qmodal_workers.spawn.fresh" in psutil.Process(pid).cmdline()


def test_the_environment_is_there_when_the_module_is_imported_in_a_template(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    source = "import os\nCOLOR = os.environ['COLOR']\ndef color(): return COLOR\n"
    options = validated_options(env={"COLOR": "blue"})
    pools = fleet.publish(tmp_path / "src", source, {"color": options})
    fleet.ready(box, pools["color"])
    assert fleet.value(fleet.call(pools["color"])) == "blue"


def test_a_module_that_starts_threads_is_not_forked_and_the_log_says_why(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "src", THREADED, {"add": None})
    report = fleet.ready(box, pools["add"])
    assert fleet.value(fleet.call(pools["add"], 1, 1)) == 2
    wait_until(lambda: b"ticker" in fleet.printed(report.app), what="the reason is logged")


def test_a_failed_import_is_reported_and_the_next_start_tries_again(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "src", BROKEN, {"add": None})
    fleet.until(box, fleet.assign(box, pools["add"]), "failed")
    report = fleet.until(box, fleet.assign(box, pools["add"]), "failed")
    assert "no luck" in report.detail
    fleet.take_off(box, report.container)
    wait_until(lambda: fleet.report(box, report.container) is None, what="it is forgotten")


@pytest.mark.parametrize("fork", [True, False])
def test_a_start_that_takes_too_long_is_ended(
    fleet: Fleet, box: Box, tmp_path: Path, *, fork: bool
) -> None:
    source = "import time\ntime.sleep(600)\ndef add(x, y): pass\n"
    options = validated_options(startup_timeout=1, fork=fork)
    pools = fleet.publish(tmp_path / "src", source, {"add": options})
    report = fleet.until(box, fleet.assign(box, pools["add"]), "failed")
    assert "within 1 s" in report.detail


def test_a_container_that_is_taken_off_ends_at_once_when_idle(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"add": None})
    report = fleet.ready(box, pools["add"])
    fleet.take_off(box, report.container)
    # Sooner than its claim would end by itself.
    wait_until(lambda: fleet.report(box, report.container) is None, what="it is gone", seconds=4)
    assert fleet.pending(pools["add"]) == {}
    assert is_gone(report.pid)


def test_a_container_that_is_taken_off_finishes_its_input(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pool = fleet.publish(tmp_path / "src", SOURCE, {"until_told": None})["until_told"]
    report, go = fleet.ready(box, pool), tmp_path / "go"
    called = fleet.begin(pool, str(go))
    fleet.take_off(box, report.container)
    fleet.until(box, report.container, "draining")
    go.touch()
    assert fleet.value(called) == "told"


def test_a_worker_that_stops_while_clients_are_paused_stops_behind_it(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    """Redis 7.0.15 crashes if a client that it keeps waiting is told to wait no longer."""
    pool = fleet.publish(tmp_path / "src", SOURCE, {"until_told": None})["until_told"]
    report, go = fleet.ready(box, pool), tmp_path / "go"
    called = fleet.begin(pool, str(go))
    fleet.client.run(ask_one(b"CLIENT", b"PAUSE", 30_000, b"WRITE"))
    try:
        go.touch()
        about = (b"CLIENT", b"LIST", b"ID", report.connection)
        wait_until(lambda: b"cmd=evalsha" in fleet.client.run(ask_one(*about)), what="it settles")
        before = looks(fleet)
        box.process.send_signal(signal.SIGTERM)
        wait_until(lambda: looks(fleet) > before + 2, what="its worker has looked at it")
    finally:
        fleet.client.run(ask_one(b"CLIENT", b"UNPAUSE"))
    assert box.process.wait(15) == 0
    assert fleet.value(called) == "told"
    assert fleet.pending(pool) == {}


def looks(fleet: Fleet) -> int:
    """How often anybody has looked at a client's connection."""
    stats = fleet.client.run(ask_one(b"INFO", b"commandstats"))
    calls = re.findall(rb"cmdstat_client\|(?:list|unblock):calls=(\d+)", stats)
    return sum(map(int, calls))


def test_containers_of_a_stopped_app_are_killed(fleet: Fleet, box: Box, tmp_path: Path) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"sleepy": None})
    report = fleet.ready(box, pools["sleepy"])
    fleet.call(pools["sleepy"], 600)
    record = fleet.client.run(fleet.client.apps.record(report.app))
    assert record is not None
    fleet.client.run(fleet.client.apps.stop(record))
    ended = fleet.until(box, report.container, "ended")
    assert ended.detail == "its app has stopped"


def test_an_input_that_takes_too_long_is_interrupted(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"sleepy": validated_options(timeout=1)})
    report = fleet.ready(box, pools["sleepy"])
    outcome = fleet.outcome(fleet.call(pools["sleepy"], 30))
    assert isinstance(outcome, Outcome)
    assert outcome.kind == "timeout"
    assert fleet.value(fleet.call(pools["sleepy"], 0)) == 0
    assert fleet.until(box, report.container, "ready").pid == report.pid


def test_an_input_that_resists_is_killed_and_settled_as_timed_out(
    fleet: Fleet, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"stubborn": validated_options(timeout=1)})
    with no_process_left(), fleet.box(program=STRICT) as box:
        report = fleet.ready(box, pools["stubborn"])
        outcome = fleet.outcome(fleet.call(pools["stubborn"], 30))
        assert isinstance(outcome, Outcome)
        assert outcome.kind == "timeout"
        assert b"longer than 1 s" in outcome.payload
        assert fleet.until(box, report.container, "ended").detail


@pytest.mark.parametrize(("is_heard", "audits"), [(True, 600.0), (False, 0.2)])
def test_a_cancelled_input_is_interrupted_by_the_hint_or_without_it(
    fleet: Fleet, tmp_path: Path, *, is_heard: bool, audits: float
) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"sleepy": None})
    auditing = f"from qmodal_workers.agent import watchdog; watchdog.AUDIT_SECONDS = {audits}; "
    with no_process_left(), fleet.box(program=auditing + PROGRAM) as box:
        fleet.ready(box, pools["sleepy"])
        call, _ = fleet.begin(pools["sleepy"], 600)
        running = fleet.client.run(fleet.client.calls.cancel(call))
        if is_heard:
            fleet.client.run(fleet.client.calls.nudge_cancelled(running))
        assert fleet.value(fleet.call(pools["sleepy"], 0)) == 0


def test_what_a_container_prints_is_in_its_apps_log(fleet: Fleet, box: Box, tmp_path: Path) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"say": None})
    report = fleet.ready(box, pools["say"])
    fleet.value(fleet.call(pools["say"], "hello"))
    expected = b"hello\nhalf a line"
    wait_until(lambda: expected in fleet.printed(report.app), what="it is logged")


def test_what_a_container_left_behind_ends_with_it(fleet: Fleet, box: Box, tmp_path: Path) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"daemon": None})
    report = fleet.ready(box, pools["daemon"])
    pid = fleet.value(fleet.call(pools["daemon"]))
    assert psutil.pid_exists(pid)
    fleet.take_off(box, report.container)
    wait_until(lambda: is_gone(pid), what="the daemon is gone")


def test_retries_of_its_pools_are_promoted_when_due(fleet: Fleet, box: Box, tmp_path: Path) -> None:
    retries = Retries(max_retries=1, initial_delay=0.2)
    pools = fleet.publish(tmp_path / "src", SOURCE, {"fail": validated_options(retries=retries)})
    fleet.ready(box, pools["fail"])
    path = tmp_path / "runs"
    outcome = fleet.outcome(fleet.call(pools["fail"], str(path)))
    assert isinstance(outcome, Outcome)
    assert outcome.kind == "error"
    assert path.read_text() == ".."


def test_code_of_long_ago_is_removed_and_what_a_container_runs_is_noted_as_used(
    fleet: Fleet, tmp_path: Path
) -> None:
    often = "from qmodal_workers.agent import maintenance; maintenance.FORGET_CODE_SECONDS = 0.1; "
    with fleet.box(program=often + PROGRAM) as box:
        fleet.ready(box, fleet.publish(tmp_path / "src", SOURCE, {"add": None})["add"])
        cache = fleet.client.settings.code
        (used,) = (each for each in cache.iterdir() if each.is_dir())
        yesterday = time.time() - 86_400
        os.utime(used, (yesterday, yesterday))
        forgotten = cache / "forgotten"
        forgotten.mkdir()
        os.utime(forgotten, (1_000, 1_000))
        wait_until(lambda: not forgotten.exists(), what="the end of forgotten code")
        wait_until(lambda: used.stat().st_mtime > yesterday + 60, what="a note of its use")


def test_a_configuration_problem_is_one_line_and_exit_status_2(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "QMODAL_REDIS_URL": "nonsense",
            "QMODAL_HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "QMODAL_REDIS_URL" in ended.stderr


def test_a_worker_without_standard_streams_works_and_gives_their_numbers_to_nothing_else(
    fleet: Fleet, tmp_path: Path
) -> None:
    program = f"""
import os, sys
os.closerange(0, 3)
os.execv(sys.executable, [sys.executable, "-P", "-W", "error", "-c", {PROGRAM!r}])
"""
    pool = fleet.publish(tmp_path / "src", SOURCE, {"say": None})["say"]
    with fleet.box(program=program) as box:
        report = fleet.ready(box, pool)
        fleet.value(fleet.call(pool, "heard"))
        wait_until(lambda: b"heard" in fleet.printed(report.app), what="it is logged")
        places = [Path(f"/proc/{box.process.pid}/fd/{fd}").readlink() for fd in range(3)]
        assert places == [Path(os.devnull)] * 3


def test_it_leaves_in_order_when_idle(fleet: Fleet, box: Box, tmp_path: Path) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"add": None})
    fleet.ready(box, pools["add"])
    family = box.family()
    assert box.stop(seconds=15) == 0
    assert fleet.workers() == {}
    assert all(map(is_gone, family))


def test_sigterm_lets_inputs_finish_that_fit_in_the_grace(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"sleepy": None})
    fleet.ready(box, pools["sleepy"])
    called = fleet.begin(pools["sleepy"], 1)
    assert box.stop(seconds=15) == 0
    assert fleet.value(called) == 1


def test_sigterm_gives_back_what_does_not_fit_uncharged(fleet: Fleet, tmp_path: Path) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"sleepy": None})
    with fleet.box("--grace", "0.5") as box:
        fleet.ready(box, pools["sleepy"])
        fleet.begin(pools["sleepy"], 600)
        assert box.stop(seconds=15) == 0
    assert lost_deliveries(fleet, pools["sleepy"]) == [0]
    assert fleet.workers() == {}


def test_a_second_sigterm_does_not_wait(fleet: Fleet, box: Box, tmp_path: Path) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"sleepy": None})
    report = fleet.ready(box, pools["sleepy"])
    fleet.begin(pools["sleepy"], 600)
    box.process.send_signal(signal.SIGTERM)
    fleet.until(box, report.container, "draining")
    assert box.stop(seconds=15) == 0
    assert lost_deliveries(fleet, pools["sleepy"]) == [0]


def lost_deliveries(fleet: Fleet, pool: str) -> list[int]:
    """How many deliveries each waiting input has lost."""
    entries = fleet.client.run(ask_one(b"XRANGE", fleet.client.keys.again(pool), b"-", b"+"))
    return [int(fields[fields.index(b"d") + 1]) for _, fields in entries]
