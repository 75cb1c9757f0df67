"""The client's side of a stack: starts a supervisor, holds its lifeline, and lets go of it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from qmodal.config import Settings
from qmodal.embedded.credentials import child_environ, password_of
from qmodal.embedded.folder import SOCKET, write_private
from qmodal.embedded.gateway import Listener, listen_on
from qmodal.embedded.home import unix_url
from qmodal.embedded.private import make_private_folder, remove_if_free, sweep_abandoned
from qmodal.embedded.server import find_binary, server_command
from qmodal.embedded.supervisor.lifeline import START_GATEWAY
from qmodal.embedded.supervisor.plan import StackPlan
from qmodal.exception import ConfigurationError
from qmodal.wire.publishing import KEY_BYTES, with_publisher

__all__ = ["CHILDREN", "Stack", "launch", "start_private", "sweep_abandoned"]

Children = Mapping[str, Sequence[str]]

CHILDREN: Children = {
    name: (sys.executable, "-P", "-m", "qmodal", name)
    for name in ("autoscaler", "worker", "control")
}
# Both from one process: a private stack lives for one command, and starting is what takes time. Without control: what
# lives so long has no schedules.
CREW: Children = {"crew": (sys.executable, "-P", "-m", "qmodal.embedded.supervisor.crew")}
# Seconds that a private stack's children have to end: after their client was killed, and after `close`.
ABANDONED_PRIVATE_GRACE = 1.0
CLOSE_GRACE = 5.0
# The supervisor's own time beyond the grace: ending the server, removing the folder.
SLACK = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a stack lives: `private` says that the folder goes when the stack ends."""

    folder: Path
    log: Path | None
    private: bool


class Stack:
    """A running server with its children; it ends with `close`, or with this process.

    Only this process holds the lifeline: programs that it executes do not inherit it, and
    children that Python forks (multiprocessing) close theirs. A child that C code forks keeps
    the stack alive until that child ends, unless `close` is called.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], *, settings: Settings, place: Place
    ) -> None:
        # Those of its client: the server, and the keys, with which it may publish.
        self.settings = settings
        self.url = settings.redis_url or ""
        self.key = settings.signing_key or b""
        self.place = place
        # Why no gateway can be started; only who wants one has to know.
        self.gateway_refusal: ConfigurationError | None = None
        self._process = process
        self._owner = os.getpid()
        self._closing = threading.Lock()
        _open.add(self)

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *_failure: object) -> None:
        self.close()

    @property
    def supervisor(self) -> int:
        """The process id of the supervisor."""
        return self._process.pid

    def stop(self, grace: float) -> None:
        """Asks for the end and returns at once; children get `grace` seconds. May be repeated."""
        self._tell(f"{grace}".encode())

    def start_gateway(self) -> bool:
        """Has a gateway started, unless there is one, and returns at once; False in a forked child.

        ConfigurationError if the port that it should listen on is not free.
        """
        if os.getpid() != self._owner:
            return False
        if self.gateway_refusal is not None:
            raise self.gateway_refusal
        self._tell(START_GATEWAY)
        return True

    def _tell(self, line: bytes) -> None:
        lifeline = self._process.stdin
        if lifeline is not None and not lifeline.closed:
            with contextlib.suppress(OSError):
                os.write(lifeline.fileno(), line + b"\n")

    def wait(self, timeout: float | None = None) -> bool:
        """Until the supervisor and all that it started are gone; False after `timeout` seconds."""
        report = self._process.stdout
        if report is None or report.closed:
            return True
        return _ends(report, timeout)

    def close(self, grace: float = CLOSE_GRACE) -> int:
        """Ends everything and waits for it; the supervisor's exit code, 0 if all went well.

        Children get `grace` seconds to finish. May be called by any thread, and more than once;
        in a forked child it does nothing, because the stack belongs to the parent.
        """
        if os.getpid() != self._owner:
            return 0
        with self._closing:
            self.stop(grace)
            if not self.wait(grace + SLACK):
                self._process.kill()
            self._let_go()
            code = self._process.wait()
            if self.place.private:
                _remove(self.place.folder)
            return code

    def _let_go(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


_open: weakref.WeakSet[Stack] = weakref.WeakSet()


def start_private(settings: Settings, *, children: Children = CREW) -> Stack:
    """A server, an autoscaler and a worker for this process alone; nothing outlives it.

    Returns as soon as the server answers. A gateway starts once it is asked for, and has its port
    from the beginning. ConfigurationError if there is no server program or it does not start.
    """
    sweep_abandoned()
    binary = find_binary()
    folder, lock = make_private_folder()
    key = settings.signing_key or secrets.token_bytes(32)
    key_file = folder / "key"
    write_private(key_file, key.hex() + "\n")
    if not settings.publishers:  # the private half stays with this process
        private = settings.publishing_key or secrets.token_bytes(KEY_BYTES)
        settings = with_publisher(settings, private)
    settings = replace(settings, signing_key=key)
    socket = folder / SOCKET
    gateway, refusal = _listener(settings)
    plan = StackPlan(
        server=server_command(binary, data=folder, socket=socket, kept=False),
        server_log=str(folder / "server.log"),
        socket=str(socket),
        url=unix_url(socket),
        key_file=str(key_file),
        lock=lock,
        kept=False,
        grace=ABANDONED_PRIVATE_GRACE,
        children={name: list(argv) for name, argv in children.items()},
        gateway_on_request=True,
        remove=[str(folder)],
    )
    place = Place(folder=folder, log=folder / "stack.log", private=True)
    stack = launch(plan, place=place, settings=settings, gateway=gateway)
    stack.gateway_refusal = refusal
    return stack


def _listener(settings: Settings) -> tuple[Listener | None, ConfigurationError | None]:
    try:
        return listen_on(settings.web_port or 0), None
    except ConfigurationError as error:
        return None, error


def launch(
    plan: StackPlan,
    *,
    place: Place,
    settings: Settings,
    gateway: Listener | None = None,
) -> Stack:
    """Starts the supervisor of a plan, whose lock it takes over, and waits for the server.

    It takes over the gateway's socket, too, if there is to be one.

    ConfigurationError with the end of the server's log if it does not start.
    """
    told = replace(settings, redis_url=plan.url)
    if gateway is not None:
        plan = replace(plan, gateway=gateway.command, gateway_socket=gateway.socket.fileno())
    try:
        url_file = _written(plan.url, place.folder / "url") if password_of(plan.url) else ""
        environ = child_environ(told, key_file=plan.key_file, url_file=url_file)
        process = _spawn(plan, place, environ)
    finally:
        os.close(plan.lock)
        if gateway is not None:
            gateway.close()
    stack = Stack(process, settings=told, place=place)
    try:
        _until_ready(process, plan, place)
    except BaseException:
        stack.close(grace=0.0)
        raise
    return stack


def _written(url: str, file: Path) -> str:
    write_private(file, url + "\n")
    return str(file)


def _spawn(plan: StackPlan, place: Place, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with contextlib.ExitStack() as files:
        log: IO[bytes] | None = None
        if place.log is not None:
            log = files.enter_context(place.log.open("ab"))
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "qmodal.embedded.supervisor.main", str(place.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environ,
            # A Ctrl-C meant for this process must not reach what still has to clean up.
            start_new_session=True,
            pass_fds=plan.inherited,
            bufsize=0,
        )


def _until_ready(process: subprocess.Popen[bytes], plan: StackPlan, place: Place) -> None:
    if process.stdin is None or process.stdout is None:
        raise ConfigurationError("The supervisor has no pipes")
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(plan.to_line())
    line = process.stdout.readline()
    if not line:
        said = place.log.read_text(errors="replace").strip() if place.log else "see above"
        raise ConfigurationError(f"The supervisor ended before the server answered: {said}")
    report: dict[str, str] = json.loads(line)
    if "error" in report:
        raise ConfigurationError(report["error"])


def _ends(pipe: IO[bytes], timeout: float | None) -> bool:
    """Whether the pipe reaches its end within `timeout` seconds."""
    deadline = None if timeout is None else time.monotonic() + timeout
    poll = select.poll()
    poll.register(pipe.fileno(), select.POLLIN)
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        if not poll.poll(left):
            return False
        if not os.read(pipe.fileno(), 4096):
            return True


def _remove(folder: Path) -> None:
    """What a supervisor that was killed could not do: the lock is free when all are gone."""
    deadline = time.monotonic() + 2.0
    while folder.exists() and not remove_if_free(folder) and time.monotonic() < deadline:
        time.sleep(0.01)


def _let_go_in_child() -> None:
    for stack in list(_open):
        stack._let_go()


os.register_at_fork(after_in_child=_let_go_in_child)
