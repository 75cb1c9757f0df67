"""Reads the pipes of containers in a thread of its own, which never waits for Redis."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from qmodal.store.history.logs import LogChunk, Source
from qmodal.transport.defects import note, survive
from qmodal_workers.ipc.endpoints import PIPE_BYTES
from qmodal_workers.ipc.output_words import STDERR, STDOUT, OutputWords
from qmodal_workers.output.attribution import READ_BYTES, AttributedPipe
from qmodal_workers.output.lines import OutputBuffer
from qmodal_workers.output.redaction import Redaction

# The pause after a failed wait for output.
SELECT_RETRY_SECONDS = 0.1
log = logging.getLogger("qmodal.worker")


@dataclass(slots=True)
class _Pipe:
    fd: int
    source: Source
    output: OutputBuffer
    attributed: AttributedPipe


class Pipes:
    """The pipes of all containers, read into their `OutputBuffer`s.

    `notify` is called from the reading thread when there is output to `take`. Invariants: only that
    thread touches the selector and `_pipes`, others hand it requests; buffers are touched under `_lock`.
    """

    def __init__(self, notify: Callable[[], None], redaction: Redaction | None = None) -> None:
        self._notify = notify
        self._redaction = redaction or Redaction()
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._outputs: dict[str, OutputBuffer] = {}
        self._pipes: dict[str, list[_Pipe]] = {}
        self._requests: deque[Callable[[], None]] = deque()
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wake, False)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._is_open = True
        self._thread = threading.Thread(target=self._run, name="pipes", daemon=True)
        self._thread.start()

    def open(
        self,
        container: str,
        app: str,
        *,
        stdout: int,
        stderr: int,
        pool: str = "",
        function: str = "",
        words: OutputWords | None = None,
    ) -> None:
        """Read the two descriptors from now on, until they end or `finish` is called.

        `words` say which input the container runs.
        """
        with self._lock:
            output = self._output(container, app)
            output.pool, output.function = pool, function
        pipes = [
            _Pipe(stdout, "stdout", output, AttributedPipe(stdout, STDOUT, words)),
            _Pipe(stderr, "stderr", output, AttributedPipe(stderr, STDERR, words)),
        ]
        self._ask(lambda: self._register(container, pipes))

    def _output(self, container: str, app: str) -> OutputBuffer:
        fresh = OutputBuffer(container, app, redaction=self._redaction)
        return self._outputs.setdefault(container, fresh)

    def name(self, container: str, *, app: str) -> None:
        """Set the app to whose log the container's output goes; until then `take` leaves it."""
        with self._lock:
            self._outputs[container].app = app
        self._notify()

    def say(self, container: str, app: str, text: str) -> None:
        """Add a line of the worker's, from the source `system`, to the container's output."""
        with self._lock:
            output = self._output(container, app)
            output.feed("system", text.encode() + b"\n", time.monotonic())
        self._notify()

    def finish(self, container: str, done: Callable[[], None]) -> None:
        """Read what is left in the pipes, close them, and call `done` from the thread.

        It does not wait for their end, because processes that the container left behind may hold them
        open.
        """

        def finish() -> None:
            try:
                for pipe in self._pipes.pop(container, []):
                    with survive(f"reading the last output of {container}"):
                        self._read_rest(pipe)
                    self._forget(pipe)
            finally:
                with self._lock:
                    if container in self._outputs:
                        self._outputs[container].is_finished = True
                self._notify()  # even without output: `take` forgets the finished buffer
                done()

        self._ask(finish)

    def take(self) -> list[tuple[str, LogChunk]]:
        """The output that can be sent, as pairs of app and chunk."""
        now = time.monotonic()
        taken: list[tuple[str, LogChunk]] = []
        with self._lock:
            for output in self._outputs.values():
                if output.app:
                    with survive(f"taking the output of {output.container}"):
                        taken += [(output.app, chunk) for chunk in output.take(now)]
            self._outputs = {
                name: output for name, output in self._outputs.items() if not output.is_finished
            }
        return taken

    @property
    def is_waiting(self) -> bool:
        """Whether an unfinished line of a container waits for its end."""
        with self._lock:
            return any(output.is_waiting for output in self._outputs.values() if output.app)

    def close(self) -> None:
        """Close all pipes and end the thread."""
        self._ask(self._stop)
        self._thread.join()
        os.close(self._wake)

    def _ask(self, request: Callable[[], None]) -> None:
        self._requests.append(request)
        with contextlib.suppress(BlockingIOError):  # the pipe is full, so the thread wakes anyway
            os.write(self._wake, b".")

    def _run(self) -> None:
        while self._is_open:
            self._turn()
        self._selector.close()
        os.close(self._woken)

    def _turn(self) -> None:
        """Wait for output and requests, and handle them; a wait keeps nothing of the turn before it."""
        ready = []
        with survive("waiting for output"):
            ready = self._selector.select()
        for key, _ in ready:
            # This thread reads for all containers, so a failure with one of them must not end it.
            if key.data is None:
                self._handle_requests()
            elif key.fileobj in self._selector.get_map():
                self._read_or_forget(key.data)
        if not ready:
            time.sleep(SELECT_RETRY_SECONDS)

    def _handle_requests(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 4096)
        while self._requests:
            with survive("a change of what is read"):
                self._requests.popleft()()

    def _register(self, container: str, pipes: list[_Pipe]) -> None:
        self._pipes[container] = pipes
        for pipe in pipes:
            with survive(f"reading the output of {container}"):
                self._selector.register(pipe.fd, selectors.EVENT_READ, pipe)

    def _read_or_forget(self, pipe: _Pipe) -> None:
        """Read once; close a pipe that fails, because the selector would report it for ever."""
        try:
            self._read(pipe)
        except Exception as error:
            note(f"reading the {pipe.source} of {pipe.output.container}", error)
            log.debug("it is read no more", exc_info=True)
            self._forget(pipe)

    def _read_rest(self, pipe: _Pipe) -> None:
        # As much as the pipe can hold: a process that was left behind may be writing without end.
        for _ in range(PIPE_BYTES // READ_BYTES + 1):
            if not self._read(pipe):
                return

    def _read(self, pipe: _Pipe) -> bool:
        """Read once; False if there is nothing to read."""
        if pipe.fd < 0:
            return False
        try:
            parts = pipe.attributed.read()
        except BlockingIOError:
            return False
        if parts is None:
            self._forget(pipe)
            return False
        # Whatever becomes of it, the pipe is read on: whoever prints to one that nobody reads waits for ever.
        with self._lock, survive(f"buffering the {pipe.source} of {pipe.output.container}"):
            for content, owner in parts:
                pipe.output.feed(pipe.source, content, time.monotonic(), owner)
        self._notify()
        return True

    def _forget(self, pipe: _Pipe) -> None:
        fd, pipe.fd = pipe.fd, -1
        if fd >= 0:
            with contextlib.suppress(KeyError, ValueError):  # it could not be registered
                self._selector.unregister(fd)
            with survive("closing a pipe"):
                os.close(fd)

    def _stop(self) -> None:
        self._is_open = False
        for pipes in self._pipes.values():
            for pipe in pipes:
                self._forget(pipe)
