"""The worker's side of one template process."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, TypeVar

from qmodal_workers import passing
from qmodal_workers.children import send_signal
from qmodal_workers.ends import wide_pipe
from qmodal_workers.nursery import Adopted, Nursery
from qmodal_workers.pipes import Pipes
from qmodal_workers.planning import Plan, StartError, start_limit, too_slow
from qmodal_workers.start import Descriptors

# For what is our own doing: a template's start and its forks.
OWN_SECONDS = 30.0
log = logging.getLogger("qmodal.worker")
T = TypeVar("T")


class UnusableError(StartError):
    """The template cannot fork; the container needs an interpreter of its own."""


def _spawned(
    environ: Mapping[str, str], control: int, stdout: int, stderr: int
) -> subprocess.Popen[bytes]:
    """A template in a fresh interpreter, in case there is no nursery any more."""
    # Its own session: a Ctrl-C in the worker's terminal is none of its business.
    return subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "qmodal_workers.template"),
            *(str(control), str(os.getpid())),
        ],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        pass_fds=[control],
        env=dict(environ),
        start_new_session=True,
    )


class Template:
    """The worker's side of one template process."""

    def __init__(
        self, name: str, environ: Mapping[str, str], pipes: Pipes, nursery: Nursery | None
    ) -> None:
        self.name = name
        self.used = time.monotonic()
        self._pipes = pipes
        self._loop = asyncio.get_running_loop()
        self._blank: asyncio.Future[None] = self._loop.create_future()
        self._loaded: asyncio.Future[str] | None = None
        self._forks: dict[str, asyncio.Future[int]] = {}
        self._end, theirs = passing.pair()
        self._end.setblocking(False)
        (stdout, their_stdout), (stderr, their_stderr) = wide_pipe(), wide_pipe()
        pipes.open(name, "", stdout=stdout, stderr=stderr)
        given = (theirs.fileno(), their_stdout, their_stderr)
        self.process: Adopted | subprocess.Popen[bytes] = (
            nursery and nursery.template(environ, given)
        ) or _spawned(environ, *given)
        theirs.close()
        os.close(their_stdout)
        os.close(their_stderr)
        self._loop.add_reader(self._end, self.pump)
        self.is_dead = False

    async def load(self, plan: Plan) -> None:
        """Import the version, once; raises StartError if that fails, UnusableError if unsafe."""
        if self._loaded is None:
            self._loaded = self._loop.create_future()
            self._pipes.name(self.name, app=plan.spec.app_id)
            document = passing.hold(plan.document)
            message = {"load": True, "code": plan.code, "environ": dict(plan.environ)}
            self._send(message, [document])
            os.close(document)
        await self._own(self._blank)
        try:
            # The time limit is for user code, so our own imports come before it.
            async with asyncio.timeout(start_limit(plan.options)):
                unsafe = await asyncio.shield(self._loaded)
        except TimeoutError:
            raise StartError(too_slow(plan.options)) from None
        if unsafe:
            raise UnusableError(unsafe)

    async def _own(self, future: asyncio.Future[T]) -> T:
        try:
            return await asyncio.wait_for(asyncio.shield(future), OWN_SECONDS)
        except TimeoutError:
            self.close()
            raise UnusableError("its template does not answer") from None

    async def fork(self, container: str, theirs: Descriptors, request: int) -> int:
        """The pid of a new container; raises UnusableError."""
        self.used = time.monotonic()
        forked = self._forks[container] = self._loop.create_future()
        self._send({"fork": container}, [*theirs.as_tuple(), request])
        try:
            return await self._own(forked)
        finally:
            forked.cancel()  # whoever was cancelled here does not want it any more

    def _send(self, message: Mapping[str, Any], descriptors: list[int]) -> None:
        try:
            passing.send(self._end, message, descriptors)
        except OSError as error:
            self.close()
            raise UnusableError(f"the template does not answer: {error}") from error

    def pump(self) -> None:
        """Take in what it has said."""
        while not self.is_dead:
            try:
                received = passing.receive(self._end)
            except BlockingIOError:
                return
            except OSError:
                received = None
            if received is None:
                self.close()
            else:
                self._hear(received[0])

    def _hear(self, message: dict[str, Any]) -> None:
        match message:
            case {"blank": True}:
                self._blank.set_result(None)
            case {"loaded": int(), "unsafe": str(unsafe)}:
                self._resolve(unsafe)
            case {"failed": str(text)}:
                self._fail(StartError(text))
            case {"forked": str(container), "pid": int(pid)}:
                self._forked(container, pid)
            case _:
                log.warning("%s says what we do not understand", self.name)

    def _forked(self, container: str, pid: int) -> None:
        waiting = self._forks.pop(container, None)
        if waiting is None or waiting.done():
            send_signal(pid, signal.SIGKILL)  # whoever asked for it has given up
        else:
            waiting.set_result(pid)

    def _resolve(self, unsafe: str) -> None:
        if self._loaded is not None and not self._loaded.done():
            self._loaded.set_result(unsafe)

    def _fail(self, error: StartError) -> None:
        waiting: list[asyncio.Future[Any]] = [*self._forks.values(), self._blank]
        waiting += [self._loaded] if self._loaded else []
        self._forks = {}
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # nobody may be waiting any more

    def close(self) -> None:
        """End it (or note that it has died); the containers that it has forked stay."""
        if not self.is_dead:
            self.is_dead = True
            self._fail(UnusableError("its template has died"))
            self._loop.remove_reader(self._end)
            self._end.close()
            self.process.kill()
            self._pipes.finish(self.name, lambda: None)
