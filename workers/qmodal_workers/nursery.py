"""A blank process forked from the worker before it has threads or a loop; templates come from it.

A template needs hundreds of milliseconds of imports. The worker has made them for itself, so a
process that was forked right after them has them too, and forks a template in a few more.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
from collections.abc import Mapping
from typing import NoReturn

from qmodal_workers.passing import pair, receive, send
from qmodal_workers.tie import die_with_parent, try_fork

ANSWER_SECONDS = 5.0


class Adopted:
    """A process that became our child by subreaping; reads as `subprocess.Popen` does."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def poll(self) -> int | None:
        """Its exit status, None while it lives."""
        if self._status is None:
            self._collect(os.WNOHANG)
        return self._status

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        while self._status is None:
            self._collect(0)
        return self._status

    def kill(self) -> None:
        """End it."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _collect(self, options: int) -> None:
        try:
            pid, status = os.waitpid(self.pid, options)
        except ChildProcessError:
            self._status = 1  # collected by somebody else: nobody knows how it ended
            return
        if pid:
            self._status = os.waitstatus_to_exitcode(status)


class Nursery:
    """The worker's side of the blank process."""

    def __init__(self, end: socket.socket, pid: int) -> None:
        self._end = end
        self.pid = pid

    @classmethod
    def start(cls) -> Nursery:
        """Fork it; the caller must have no thread and no event loop yet."""
        ours, theirs = pair()
        worker = os.getpid()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _be_nursery(theirs, worker)
        theirs.close()
        return cls(ours, pid)

    def template(
        self, environ: Mapping[str, str], descriptors: tuple[int, int, int]
    ) -> Adopted | None:
        """A template with that socket, stdout and stderr; None if the nursery is no more."""
        try:
            send(self._end, {"environ": dict(environ)}, descriptors)
            ready, _, _ = select.select([self._end], [], [], ANSWER_SECONDS)
            answer = receive(self._end) if ready else None
        except OSError:
            return None
        # 0: the fork failed there. As a pid it would mean our whole process group.
        pid = 0 if answer is None else answer[0].get("pid", 0)
        return Adopted(pid) if pid else None

    def close(self) -> None:
        """Let it go."""
        self._end.close()
        Adopted(self.pid).wait()


def _be_nursery(end: socket.socket, worker: int) -> NoReturn:
    try:
        die_with_parent(worker)
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # Here and not in the worker, which must never be able to unpickle.
        from qmodal_workers import forking

        forking.preload()
        gc.freeze()
        while (received := receive(end)) is not None:
            message, descriptors = received
            _fork(end, worker, message["environ"], descriptors)
    finally:
        os._exit(0)


def _fork(end: socket.socket, worker: int, environ: dict[str, str], descriptors: list[int]) -> None:
    """Fork twice, so that the worker becomes the template's parent and learns of its end."""
    told, tell = os.pipe()
    middle = try_fork()
    if middle == 0:
        pid = try_fork()
        if pid == 0:
            end.close()
            os.close(told)
            os.close(tell)
            _be_template(worker, environ, descriptors)
        if pid > 0:
            os.write(tell, pid.to_bytes(8, "little"))
        os._exit(0)
    os.close(tell)
    pid = int.from_bytes(os.read(told, 8), "little")
    os.close(told)
    for fd in descriptors:
        os.close(fd)
    if middle > 0:
        os.waitpid(middle, 0)
    send(end, {"pid": pid})


def _be_template(worker: int, environ: dict[str, str], descriptors: list[int]) -> NoReturn:
    from qmodal_workers import forking
    from qmodal_workers.container.process import die_with, speak_through

    try:
        os.setsid()
        die_with(worker)
        control, stdout, stderr = descriptors
        speak_through(stdout, stderr)
        os.environ.clear()
        os.environ.update(environ)
        forking.serve(control)
    finally:
        os._exit(0)
