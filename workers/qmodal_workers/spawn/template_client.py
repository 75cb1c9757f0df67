"""The worker's side of one template process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import msgpack

from qmodal_workers.ipc import messages
from qmodal_workers.ipc.endpoints import wide_pipe
from qmodal_workers.ipc.process_marks import ProcessMark
from qmodal_workers.ipc.processes import interpreter, send_signal
from qmodal_workers.ipc.start_request import Descriptors, StartRequest
from qmodal_workers.output.pipes import Pipes
from qmodal_workers.spawn.start_plan import StartError, StartPlan, start_limit, too_slow
from qmodal_workers.spawn.zygote import AdoptedProcess, ExpectedProcess, Zygote, until_adopted

# How long a template may take to start or to fork; no user code runs in either.
TEMPLATE_ANSWER_SECONDS = 30.0
log = logging.getLogger("qmodal.worker")
T = TypeVar("T")


Process: TypeAlias = AdoptedProcess | ExpectedProcess | subprocess.Popen[bytes]


@dataclass(frozen=True, slots=True)
class TemplateEndpoints:
    """The worker's ends of a template's socket and pipes; `theirs`: its socket, stdout and stderr."""

    control: socket.socket
    stdout: int
    stderr: int
    theirs: tuple[int, int, int]

    @classmethod
    def create(cls) -> TemplateEndpoints:
        """Create both ends."""
        ours, theirs = messages.pair()
        ours.setblocking(False)
        (stdout, their_stdout), (stderr, their_stderr) = wide_pipe(), wide_pipe()
        return cls(ours, stdout, stderr, (theirs.detach(), their_stdout, their_stderr))

    def hand_over(self) -> None:
        """Close the template's ends once it has them."""
        for fd in self.theirs:
            os.close(fd)

    def close(self) -> None:
        """Close the worker's ends, of a template that did not start."""
        self.control.close()
        os.close(self.stdout)
        os.close(self.stderr)


class UnusableError(StartError):
    """The template cannot fork; the container needs an interpreter of its own."""


def _spawned(
    environ: Mapping[str, str], mark: ProcessMark, control: int, stdout: int, stderr: int
) -> subprocess.Popen[bytes]:
    """Start a template in a fresh interpreter, for when there is no zygote any more."""
    # A session of its own, so that Ctrl-C in the worker's terminal does not reach it.
    return subprocess.Popen(
        [
            *interpreter("qmodal_workers.spawn.template"),
            *map(str, (control, os.getpid(), mark)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        pass_fds=[control],
        env=dict(environ),
        start_new_session=True,
    )


class TemplateClient:
    """The worker's side of one template process; `mark` is on every process that user code starts in it.

    `last_used`: when it last forked a container, in monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        pipes: Pipes,
        ends: TemplateEndpoints,
        process: Process,
        mark: ProcessMark = 0,
    ) -> None:
        self.name = name
        self.mark = mark
        self.last_used = time.monotonic()
        self._pipes = pipes
        self._loop = asyncio.get_running_loop()
        # Done when it has imported what every container needs, and no user code yet.
        self._blank: asyncio.Future[None] = self._loop.create_future()
        # Set by `load` or `warm`; the result is why it cannot be forked, empty if it can.
        self._loaded: asyncio.Future[str] | None = None
        self.process = process
        self._socket = ends.control
        self._forks: dict[str, asyncio.Future[int]] = {}
        pipes.open(name, "", stdout=ends.stdout, stderr=ends.stderr)
        self._loop.add_reader(self._socket, self.receive)
        self.is_dead = False
        # User code has asked in it which GPUs there are, and was told that there are none.
        self.looks_for_gpus = False

    @classmethod
    def start(
        cls,
        name: str,
        environ: Mapping[str, str],
        pipes: Pipes,
        *,
        zygote: Zygote | None,
        mark: ProcessMark,
    ) -> TemplateClient:
        """Start a blank template: from the zygote if it can be asked, else in a fresh interpreter."""
        ends = TemplateEndpoints.create()
        try:
            asked = _asked(zygote, environ, mark, ends)
            process = _spawned(environ, mark, *ends.theirs) if asked is None else ExpectedProcess()
            made = cls(name, pipes, ends, process, mark)
        except OSError:
            ends.close()
            raise
        finally:
            ends.hand_over()
        if asked is not None:
            asked.add_done_callback(lambda answer: made._spawned_by_zygote(answer.result()))
        return made

    def _spawned_by_zygote(self, pid: int) -> None:
        """Take in the zygote's answer: the template's pid, or 0 if it could not fork."""
        if pid:
            self.process = AdoptedProcess(pid)
        if self.is_dead or not pid:
            self.close()
            self.process.kill()

    async def branch(self, name: str, mark: ProcessMark) -> TemplateClient:
        """Fork a template that has what this one has loaded; raises UnusableError."""
        ends = TemplateEndpoints.create()
        worker = messages.hold(msgpack.packb({"worker": os.getpid(), "mark": mark}))
        try:
            pid = await self._forked_by({"branch": name}, [*ends.theirs, worker], name)
        except BaseException:
            ends.close()
            raise
        finally:
            os.close(worker)
            ends.hand_over()
        made = TemplateClient(name, self._pipes, ends, AdoptedProcess(pid), mark)
        made._blank.set_result(None)
        await until_adopted(pid)
        return made

    async def load(self, plan: StartPlan) -> None:
        """Import the version, once; raises StartError if that fails, UnusableError if unsafe."""
        settings = msgpack.packb(plan.settings.to_environ())
        documents = (plan.signed_version, settings, plan.variables.pack())
        await self._run(plan, {"load": True, "code": plan.code}, *documents)

    async def warm(self, plan: StartPlan, request: StartRequest) -> None:
        """Build the pool's instance, once; raises as `load` does."""
        await self._run(plan, {"warm": True}, request.pack())

    async def _run(self, plan: StartPlan, message: Mapping[str, Any], *documents: bytes) -> None:
        if self._loaded is None:
            self._loaded = self._loop.create_future()
            self._pipes.name(self.name, app=plan.spec.app_id)
            held = [messages.hold(document) for document in documents]
            try:
                self._send(message, held)
            finally:
                for fd in held:
                    os.close(fd)
        await self._within_limit(self._blank)
        try:
            # The time limit is for user code, so our own imports come before it.
            async with asyncio.timeout(start_limit(plan.options)):
                unsafe = await asyncio.shield(self._loaded)
        except TimeoutError:
            raise StartError(too_slow(plan.options)) from None
        if unsafe:
            raise UnusableError(unsafe)

    async def _within_limit(self, future: asyncio.Future[T]) -> T:
        try:
            async with asyncio.timeout(TEMPLATE_ANSWER_SECONDS):
                return await asyncio.shield(future)
        except TimeoutError:
            self.close()
            raise UnusableError("its template does not answer") from None

    async def fork(
        self, container: str, theirs: Descriptors, request: int, locks: Sequence[int] = ()
    ) -> int:
        """Fork a container, which holds `locks` from then on; returns its pid, or raises UnusableError."""
        self.last_used = time.monotonic()
        if locks and self.looks_for_gpus:
            raise UnusableError(
                "its code looks for GPUs as it is imported, and a template sees none"
            )
        descriptors = [*theirs.as_tuple(), request, *locks]
        return await self._forked_by({"fork": container}, descriptors, container)

    async def _forked_by(
        self, message: Mapping[str, Any], descriptors: list[int], name: str
    ) -> int:
        forked = self._forks[name] = self._loop.create_future()
        self._send(message, descriptors)
        try:
            return await self._within_limit(forked)
        finally:
            forked.cancel()  # if nobody takes the pid now, `_forked` kills the process

    def _send(self, message: Mapping[str, Any], descriptors: list[int]) -> None:
        try:
            messages.send(self._socket, message, descriptors)
        except OSError as error:
            self.close()
            raise UnusableError(f"the template does not answer: {error}") from error

    def receive(self) -> None:
        """Handle the messages that wait on the template's socket."""
        while not self.is_dead:
            try:
                received = messages.receive(self._socket)
            except BlockingIOError:
                return
            except OSError:
                received = None
            if received is None:
                self.close()
            else:
                self._handle(received[0])

    def _handle(self, message: dict[str, Any]) -> None:
        match message:
            case {"blank": True}:
                if not self._blank.done():  # user code can write to the socket, too
                    self._blank.set_result(None)
            case {"loaded": int(), "unsafe": str(unsafe)}:
                self.looks_for_gpus = message.get("looks") is True
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
            send_signal(pid, signal.SIGKILL)  # its caller was cancelled or has given up
        elif pid:
            waiting.set_result(pid)
        else:
            waiting.set_exception(UnusableError("the system has no room for another process"))

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
                future.exception()  # retrieved here, as perhaps nobody awaits it

    def close(self) -> None:
        """Kill the template, or take in that it has died; the containers that it has forked live on."""
        if not self.is_dead:
            self.is_dead = True
            self._fail(UnusableError("its template has died"))
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self.process.kill()
            self._pipes.finish(self.name, lambda: None)


def _asked(
    zygote: Zygote | None, environ: Mapping[str, str], mark: ProcessMark, ends: TemplateEndpoints
) -> asyncio.Future[int] | None:
    """The zygote's future answer, a pid; None if there is no zygote that can be asked."""
    if zygote is None or zygote.is_lost:
        return None
    with contextlib.suppress(OSError):
        return zygote.ask(environ, mark, ends.theirs)
    return None
