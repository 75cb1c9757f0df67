"""The autoscaler and the worker of a private stack, forked from one process that has imported both.

Run as `python -P -m qmodal.embedded.supervisor.crew`. Their imports take longer than everything else between
`qmodal run` and its first result, so they are made once; forking takes a millisecond. What to
import comes from the entry points `qmodal.crew` (command name -> module), so that this package
needs to know neither of the others.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from types import FrameType

from qmodal.embedded.supervisor.child import FIRST_RESTART_DELAY, tie_to_parent


class Crew:
    """The processes by pid; one that dies is started again a second later."""

    def __init__(self, commands: dict[str, Callable[[], int]]) -> None:
        self._commands = commands
        self._pids: dict[int, str] = {}
        self._is_stopping = False

    def run(self) -> int:
        """Run all until SIGTERM; the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        for name in self._commands:
            self._fork(name)
        while self._pids:
            pid, status = os.wait()
            name = self._pids.pop(pid, "")
            if name and not self._is_stopping:
                self._say(f"{name} ended with status {os.waitstatus_to_exitcode(status)}")
                time.sleep(FIRST_RESTART_DELAY)
                self._fork(name)
        return 0

    def _fork(self, name: str) -> None:
        if self._is_stopping:
            return
        tie = tie_to_parent(signal.SIGKILL)
        pid = os.fork()
        if pid == 0:
            _become(self._commands[name], tie)
        self._pids[pid] = name

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._is_stopping = True
        for pid in self._pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _say(self, sentence: str) -> None:
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} qmodal: {sentence}; starting it again\n")


def _become(run: Callable[[], int], tie: Callable[[], None] | None) -> None:
    status = 1
    try:
        os.setsid()
        if tie is not None:
            tie()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        status = run()
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 1
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(status)


def _command(name: str) -> Callable[[], int]:
    (point,) = entry_points(group="qmodal.commands", name=name)
    command = point.load()

    def run() -> int:
        return command.main(args=[], prog_name=f"qmodal {name}", standalone_mode=False) or 0

    return run


def main() -> int:
    """Import everything, then fork."""
    points = entry_points(group="qmodal.crew")
    for point in points:
        import_module(point.value)
    crew = Crew({name: _command(name) for name in sorted({point.name for point in points})})
    gc.freeze()
    return crew.run()


if __name__ == "__main__":
    sys.exit(main())
