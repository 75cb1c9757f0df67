"""User code that puts its own in place of threads, locks, sockets and forks, as gevent does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from qmodal.spec.options import validated_options
from tests.support.boxes import ROOT, Box, Fleet
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys

# Whoever waits in one of these waits for a loop that nobody runs.
PATCH = """
import os, select, signal, socket, threading, time, _thread
from queue import Queue

def never(*_args, **_kwargs):
    while True:
        signal.pause()

class Socket(socket.socket):
    pass

class Thread(threading.Thread):
    pass

class Lock:
    # Other than a lock of the system, it cannot be told from one by its users only.
    def __init__(self):
        self._inner = allocate()
        self.acquire, self.release = self._inner.acquire, self._inner.release
        self.locked = self._inner.locked
    def __enter__(self):
        self._inner.acquire()
    def __exit__(self, *_failure):
        self._inner.release()

allocate = threading.Lock
os.fork = os.waitpid = never
socket.socket, threading.Thread, threading.Lock = Socket, Thread, Lock
"""
SOURCE = (
    PATCH
    + """
def square(x):
    return x * x

def pids():
    return os.getpid(), os.getppid()
"""
)
GUARDED = (
    """
import os, threading, time
from qmodal_workers.container.lease_guard import LeaseGuard
from qmodal_workers.ipc.shared_record import SharedRecord, lease_clock
"""
    + PATCH
    + """
threading.Thread = time.sleep = _thread.start_new_thread = never
os.setsid()
record = SharedRecord.create()
record.hold_until(lease_clock() + 300_000_000)
record.container.serial = 1
LeaseGuard(record).start()
ends = time.monotonic() + 15
while time.monotonic() < ends:
    pass
"""
)


def test_its_containers_have_interpreters_of_their_own(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"square": None, "pids": None})
    first = fleet.ready(box, pools["square"])
    assert fleet.value(fleet.call(pools["square"], 3)) == 9
    second = fleet.ready(box, pools["pids"])
    assert fleet.value(fleet.call(pools["pids"])) == (second.pid, box.process.pid)
    said = b"importing it replaced os.fork, os.waitpid, socket.socket, as gevent does"
    wait_until(lambda: said in fleet.printed(first.app), what="it says why")


def test_the_guard_of_at_most_once_is_not_among_what_it_replaces() -> None:
    paths = f"{ROOT}:{ROOT / 'workers'}"
    ended = subprocess.run(
        [sys.executable, "-c", GUARDED], env={"PYTHONPATH": paths}, timeout=30, check=False
    )
    assert ended.returncode == -9


def test_an_import_that_never_answers_ends_with_an_error(
    fleet: Fleet, box: Box, tmp_path: Path
) -> None:
    source = "import signal\nwhile True: signal.pause()\ndef square(x): return x * x"
    options = {"square": validated_options(startup_timeout=1)}
    pool = fleet.publish(tmp_path / "src", source, options)["square"]
    report = fleet.until(box, fleet.assign(box, pool), "failed")
    assert "it was not ready within 1 s; raise `startup_timeout`" in report.detail
