"""What jobs have started ends with what it belongs to: container, template, worker, `qmodal run`."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.boxes import Box, Fleet
from tests.support.commands import started
from tests.support.stacks import is_gone
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys

SOURCE = """
import os, subprocess, time

SLEEP = ["sleep", "600"]
OWN = dict(start_new_session=True, env={})

def forked(*, twice):
    told, tell = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if not twice or os.fork() == 0:
            os.write(tell, b"%d" % os.getpid())
            time.sleep(600)
        os._exit(0)
    return int(os.read(told, 20))

def start():
    shell = "setsid sleep 600 & echo $!; wait"
    family = subprocess.Popen(["sh", "-c", shell], stdout=subprocess.PIPE, text=True, **OWN)
    return [
        subprocess.Popen(SLEEP).pid,
        subprocess.Popen(SLEEP, **OWN).pid,
        family.pid,
        int(family.stdout.readline()),
        forked(twice=False),
        forked(twice=True),
    ]

begin = start
"""
AT_IMPORT = """
import os, subprocess
STARTED = subprocess.Popen(["sleep", "600"], start_new_session=True, env={})
def started():
    return STARTED.pid
"""
PROGRAM = f"""{SOURCE}
import sys
from pathlib import Path
import qmodal

app = qmodal.App("left")

@app.function()
def sit(file: str) -> None:
    Path(file + ".part").write_text(" ".join(map(str, start())))
    os.rename(file + ".part", file)
    time.sleep(600)

@app.local_entrypoint()
def main(file: str) -> None:
    sit.remote(file)
"""


def wait_until_gone(pids: Sequence[int]) -> None:
    wait_until(lambda: all(map(is_gone, pids)), what="all are gone")


def test_what_a_container_has_started_ends_with_it_and_nothing_else_does(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"start": None, "begin": None})
    killed, drained = (fleet.ready(box, pool) for pool in pools.values())
    of_killed, of_drained = (fleet.value(fleet.call(pool)) for pool in pools.values())
    assert not any(map(is_gone, (*of_killed, *of_drained)))
    os.kill(killed.pid, signal.SIGKILL)
    wait_until_gone(of_killed)
    fleet.until(box, killed.container, "ended")
    assert not any(map(is_gone, of_drained))
    fleet.take_off(box, drained.container)
    wait_until_gone(of_drained)


def test_what_jobs_have_started_ends_with_their_worker_however_it_ends(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pool = fleet.publish(tmp_path / "src", SOURCE, {"start": None})["start"]
    fleet.ready(box, pool)
    pids = [*fleet.value(fleet.call(pool)), *box.family()]
    box.process.kill()
    wait_until_gone(pids)


def test_what_a_module_has_started_ends_with_the_templates_of_a_stopped_app(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pool = fleet.publish(tmp_path / "src", AT_IMPORT, {"started": None})["started"]
    report = fleet.ready(box, pool)
    pid = fleet.value(fleet.call(pool))
    fleet.take_off(box, report.container)
    wait_until(lambda: fleet.report(box, report.container) is None, what="it is gone")
    assert not is_gone(pid)
    record = fleet.client.run(fleet.client.apps.record(report.app))
    assert record is not None
    fleet.client.run(fleet.client.apps.stop(record))
    wait_until(lambda: is_gone(pid), what="what it has started is gone")
    # The nursery, and the template that is to be next.
    wait_until(lambda: len(box.family()) == 2, what="its template is gone", seconds=30)


def test_nothing_that_a_job_has_started_outlives_a_run_whose_client_is_killed(
    tmp_path: Path,
) -> None:
    file, pids = tmp_path / "pids", tmp_path / "left.py"
    pids.write_text(PROGRAM)
    with started("run", pids, "--file", str(file), cwd=tmp_path) as client:
        wait_until(file.exists, what="the job has started others", seconds=30)
        left = [int(pid) for pid in file.read_text().split()]
        assert not any(map(is_gone, left))
        client.send_signal(signal.SIGQUIT)
        wait_until(lambda: all(map(is_gone, left)), what="all are gone")
