"""The templates of a worker: one per app version and environment, and a blank one to be next."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from qmodal_workers import passing
from qmodal_workers.children import send_signal
from qmodal_workers.ends import wide_pipe
from qmodal_workers.pipes import Pipes
from qmodal_workers.planning import Plan, StartError
from qmodal_workers.start import Descriptors

IDLE_SECONDS = 600.0
SPARE_DELAY = 0.5
log = logging.getLogger("qmodal.worker")
Key = tuple[str, int, frozenset[tuple[str, str]]]


class UnusableError(StartError):
    """The template cannot fork; the container needs an interpreter of its own."""


class Template:
    """The worker's side of one template process."""

    def __init__(self, name: str, environ: Mapping[str, str], pipes: Pipes) -> None:
        self.name = name
        self.used = time.monotonic()
        self._pipes = pipes
        self._loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[str] | None = None
        self._forks: dict[str, asyncio.Future[int]] = {}
        self._end, theirs = passing.pair()
        self._end.setblocking(False)
        (stdout, their_stdout), (stderr, their_stderr) = wide_pipe(), wide_pipe()
        pipes.open(name, "", stdout=stdout, stderr=stderr)
        # Its own session: a Ctrl-C in the worker's terminal is none of its business.
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "qmodal_workers.template"),
                *(str(theirs.fileno()), str(os.getpid())),
            ],
            stdin=subprocess.DEVNULL,
            stdout=their_stdout,
            stderr=their_stderr,
            pass_fds=[theirs.fileno()],
            env=dict(environ),
            start_new_session=True,
        )
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
        unsafe = await asyncio.shield(self._loaded)
        if unsafe:
            raise UnusableError(unsafe)

    async def fork(self, container: str, theirs: Descriptors, request: int) -> int:
        """The pid of a new container; raises UnusableError."""
        self.used = time.monotonic()
        self._forks[container] = self._loop.create_future()
        self._send({"fork": container}, [*theirs.as_tuple(), request])
        return await self._forks[container]

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
        waiting: list[asyncio.Future[Any]] = [*self._forks.values()]
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


class Templates:
    """Starts templates when they are needed, and ends them when they are not."""

    def __init__(self, environ: Mapping[str, str], pipes: Pipes) -> None:
        self._environ = environ
        self._pipes = pipes
        self._names = itertools.count(1)
        self._spare: Template | None = None
        self._by_key: dict[Key, Template] = {}
        self._unsafe: dict[Key, str] = {}
        self._ended: list[Template] = []
        self._later: asyncio.TimerHandle | None = None

    @property
    def pids(self) -> set[int]:
        """The processes of all templates."""
        return {template.process.pid for template in self._all()}

    def _all(self) -> list[Template]:
        spare = [self._spare] if self._spare else []
        return [*self._by_key.values(), *spare, *self._ended]

    def prepare(self) -> None:
        """Have a blank template ready: the imports that every container needs are done in it."""
        self._later = None
        if sys.platform == "linux" and (self._spare is None or self._spare.is_dead):
            self._spare = Template(f"template-{next(self._names)}", self._environ, self._pipes)

    async def fork(self, plan: Plan, start: Callable[[Template], Awaitable[int]]) -> int:
        """A container's pid from `start(template)`; raises UnusableError or StartError."""
        key = _key(plan)
        self._check(key, plan)
        template = self._take(key)
        try:
            await template.load(plan)
        except UnusableError as error:
            if not template.is_dead:
                self._unsafe[key] = str(error)
            self._discard(key)
            raise
        except StartError:
            # The next start may find the outage over that made the import fail.
            self._discard(key)
            raise
        return await start(template)

    def _check(self, key: Key, plan: Plan) -> None:
        if sys.platform != "linux":
            raise UnusableError("templates need Linux")
        if not plan.options.fork:
            raise UnusableError("it says fork=False")
        if key in self._unsafe:
            raise UnusableError(self._unsafe[key])

    def _take(self, key: Key) -> Template:
        found = self._by_key.get(key)
        if found is None or found.is_dead:
            self._discard(key)
            self.prepare()
            assert self._spare is not None
            found, self._spare = self._spare, None
            self._by_key[key] = found
            # The next spare must not compete with this first start.
            self._later = asyncio.get_running_loop().call_later(SPARE_DELAY, self.prepare)
        return found

    def discard(self, plan: Plan) -> None:
        """Its import takes too long; the next start tries again."""
        self._discard(_key(plan))

    def _discard(self, key: Key) -> None:
        template = self._by_key.pop(key, None)
        if template is not None:
            template.close()
            self._ended.append(template)

    def tidy(self, used: set[tuple[str, int]]) -> None:
        """End those that were idle for long, unless containers of that (app, version) run."""
        now = time.monotonic()
        for key, template in list(self._by_key.items()):
            if key[:2] in used:
                template.used = now
            elif template.is_dead or now - template.used > IDLE_SECONDS:
                self._discard(key)
        self._ended = [each for each in self._ended if each.process.poll() is None]

    def pump(self) -> None:
        """Take in what all of them have said."""
        for template in self._all():
            template.pump()

    def close(self) -> None:
        """End all."""
        if self._later is not None:
            self._later.cancel()
        for template in self._all():
            template.close()
            template.process.wait()


def _key(plan: Plan) -> Key:
    return plan.spec.app_id, plan.version.number, frozenset(plan.environ.items())
