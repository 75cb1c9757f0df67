"""One child process of the supervisor: tied to it, started again when it dies, stopped at the end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

FIRST_RESTART_DELAY = 1.0
LONGEST_RESTART_DELAY = 30.0
# A child that ran this long was healthy: its next death starts the delays afresh.
HEALTHY_AFTER = 60.0

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildCommand:
    """What to start, and how; `death_signal` is what it gets when the supervisor is killed."""

    name: str
    argv: Sequence[str]
    death_signal: signal.Signals = signal.SIGKILL
    stop_signal: signal.Signals = signal.SIGTERM
    environ: Mapping[str, str] | None = None
    log: str = ""
    keep_open: Sequence[int] = ()


class ChildProcess:
    """A command and the process that runs it at the moment."""

    def __init__(self, command: ChildCommand) -> None:
        self.command = command
        self.restart_at: float | None = None
        self._delay = FIRST_RESTART_DELAY
        self._started = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether its process lives; also collects the status of one that ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def end(self) -> str:
        """How its process ended, in words."""
        code = self._process.returncode if self._process else None
        if code is None:
            return "did not start"
        return f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"

    def start(self) -> None:
        """Starts the process in a session of its own; OSError if the program cannot be run.

        Only the supervisor's main thread may call this: the kernel sends the death signal when
        the *thread* that started the process ends.
        """
        self.restart_at = None
        self._started = time.monotonic()
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(_opened(self.command.log)) if self.command.log else 2
            self._process = subprocess.Popen(
                self.command.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.command.environ,
                start_new_session=True,
                pass_fds=self.command.keep_open,
                preexec_fn=tie_to_parent(self.command.death_signal),
            )

    def tend(self, say: Callable[[str], None]) -> None:
        """Starts it again if it died: after 1 s, then twice as long each time, at most 30 s."""
        now = time.monotonic()
        if self.restart_at is not None:
            if now >= self.restart_at:
                self._start_again(say)
        elif not self.running:
            self._plan_restart(now, say)

    def terminate(self) -> None:
        """Asks it to stop."""
        self.restart_at = None
        if self.running and self._process is not None:
            self._process.send_signal(self.command.stop_signal)

    def kill(self) -> None:
        """Ends it and what it left in its session."""
        if self._process is not None:
            # The group outlives its leader as long as anybody is in it, and then there is none.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _start_again(self, say: Callable[[str], None]) -> None:
        try:
            self.start()
        except OSError as error:
            say(f"{self.command.name} cannot be started: {error}")
            self._plan_restart(time.monotonic(), say)

    def _plan_restart(self, now: float, say: Callable[[str], None]) -> None:
        if now - self._started > HEALTHY_AFTER:
            self._delay = FIRST_RESTART_DELAY
        say(f"{self.command.name} {self.end}; starting it again in {self._delay:g} s")
        self.restart_at = now + self._delay
        self._delay = min(2 * self._delay, LONGEST_RESTART_DELAY)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def tie_to_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    """What the child runs before exec so that it dies with us; Linux only.

    Elsewhere nothing does that: if the supervisor is killed there, its children live on.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, int(death_signal))
        # It may have died before the call, and then no signal will ever come.
        if os.getppid() != parent:
            os._exit(1)

    return tie
