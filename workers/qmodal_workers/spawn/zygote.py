"""The zygote: a process forked from the worker before it has threads or a loop; it forks templates.

The imports of a template take hundreds of milliseconds. The worker has made them for itself, so a
process that it forks right after them has them, too, and forks a template in a few milliseconds.

The zygote lives a moment longer than its worker, however that ends, and kills the templates and containers
that are left, and all that these have started.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections import deque
from collections.abc import Mapping
from typing import Any, NoReturn

from qmodal_workers.ipc.child_processes import is_child
from qmodal_workers.ipc.messages import pair, receive, send
from qmodal_workers.ipc.process_marks import ProcessMark, ProcessMarks, mark_process
from qmodal_workers.ipc.processes import exists, try_fork

ZYGOTE_ANSWER_SECONDS = 5.0


class AdoptedProcess:
    """A process that became our child when its parent ended; has those methods of `subprocess.Popen`."""

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
        """SIGKILL it, if it lives."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _collect(self, options: int) -> None:
        try:
            pid, status = os.waitpid(self.pid, options)
        except ChildProcessError:
            self._status = 1  # reaped elsewhere, so its status is not known
            return
        if pid:
            self._status = os.waitstatus_to_exitcode(status)


class ExpectedProcess:
    """A process that the zygote was asked for and has not answered yet, so `pid` is 0."""

    pid = 0

    def poll(self) -> int | None:
        """None: it has not ended."""
        return None

    def wait(self) -> int:
        """0: there is nothing to wait for."""
        return 0

    def kill(self) -> None:
        """Do nothing: the process ends by itself when it finds the other end of its socket closed."""


async def until_adopted(pid: int) -> None:
    """Wait (a second at most) until the middle parent is gone: before that `waitpid` does not find it."""
    for _ in range(1000):
        if is_child(pid) or not exists(pid):
            return
        await asyncio.sleep(0.001)


class Zygote:
    """The worker's side of the zygote; `is_lost`: it did not answer, and is asked for nothing any more."""

    def __init__(self, end: socket.socket, pid: int) -> None:
        end.setblocking(False)
        self._end = end
        self.pid = pid
        self.is_lost = False
        self._questions: deque[asyncio.Future[int]] = deque()

    @classmethod
    def start(cls, marks: ProcessMarks) -> Zygote:
        """Fork it; the caller must have no thread and no event loop yet."""
        ours, theirs = pair()
        worker = os.getpid()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _be_zygote(theirs, worker, marks)
        theirs.close()
        return cls(ours, pid)

    def ask(
        self, environ: Mapping[str, str], mark: ProcessMark, descriptors: tuple[int, int, int]
    ) -> asyncio.Future[int]:
        """Ask for a template; `descriptors`: its socket, stdout and stderr.

        The future's result is the template's pid, or 0 if there will be none. Raises OSError if the
        zygote is gone or its socket is full.
        """
        loop = asyncio.get_running_loop()
        send(self._end, {"environ": dict(environ), "mark": mark}, descriptors)
        if not self._questions:
            loop.add_reader(self._end, self.receive)
        asked: asyncio.Future[int] = loop.create_future()
        self._questions.append(asked)
        loop.call_later(ZYGOTE_ANSWER_SECONDS, self._lose, asked)
        return asked

    def receive(self) -> None:
        """Receive the zygote's answers, which come in the order of the questions."""
        while self._questions and not self.is_lost:
            try:
                answer = receive(self._end)
            except BlockingIOError:
                return
            except OSError:
                answer = None
            if answer is None:
                self._lose(self._questions[0])
                return
            # 0: the fork failed there. As a pid it would mean our whole process group.
            self._questions.popleft().set_result(answer[0].get("pid", 0))
        if not self._questions:
            asyncio.get_running_loop().remove_reader(self._end)

    def _lose(self, asked: asyncio.Future[int]) -> None:
        """Stop using a zygote that did not answer: templates start in fresh interpreters from now on.

        The socket stays open, because its end tells the zygote that the worker has ended.
        """
        if asked in self._questions:
            self.is_lost = True
            asyncio.get_running_loop().remove_reader(self._end)
            while self._questions:
                self._questions.popleft().set_result(0)

    def close(self) -> None:
        """Close the socket, which ends the zygote; returns when no process that came from it is left."""
        self._end.close()
        AdoptedProcess(self.pid).wait()


def _be_zygote(end: socket.socket, worker: int, marks: ProcessMarks) -> NoReturn:
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # Imported here and not in the worker, which must never be able to unpickle.
        from qmodal_workers.spawn import template_process

        template_process.preload()
        gc.freeze()
        while (received := receive(end)) is not None:
            message, descriptors = received
            _fork(end, worker, message, descriptors)
    finally:
        marks.end_all()
        os._exit(0)


def _fork(
    end: socket.socket, worker: int, message: Mapping[str, Any], descriptors: list[int]
) -> None:
    """Fork twice, so that the worker becomes the template's parent and learns of its end."""
    pid_reader, pid_writer = os.pipe()
    middle = try_fork()
    if middle == 0:
        pid = try_fork()
        if pid == 0:
            end.close()
            os.close(pid_reader)
            os.close(pid_writer)
            _be_template(worker, message, descriptors)
        if pid > 0:
            os.write(pid_writer, pid.to_bytes(8, "little"))
        os._exit(0)
    os.close(pid_writer)
    pid = int.from_bytes(os.read(pid_reader, 8), "little")
    os.close(pid_reader)
    for fd in descriptors:
        os.close(fd)
    if middle > 0:
        os.waitpid(middle, 0)
    send(end, {"pid": pid})


def _be_template(worker: int, message: Mapping[str, Any], descriptors: list[int]) -> NoReturn:
    from qmodal_workers.container.process.become import die_with, speak_through
    from qmodal_workers.spawn import template_process

    try:
        os.setsid()
        die_with(worker)
        mark_process(message["mark"])
        control, stdout, stderr = descriptors
        speak_through(stdout, stderr)
        os.environ.clear()
        os.environ.update(message["environ"])
        template_process.serve(control)
    finally:
        os._exit(0)
