"""Process primitives that the worker, its templates and its containers share; imports nothing slow."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

# The variable with the container's id, which tells it of a process that left its session; user code may
# read it.
CONTAINER_VARIABLE = "QMODAL_CONTAINER"
_PR_SET_PDEATHSIG = 1
# Looked up once, because each `CDLL` makes a class for its functions.
_prctl: Any = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent` dies; exit if it has died already (Linux).

    Without this a worker that was killed while a child was importing left the child behind.
    """
    if sys.platform != "linux":
        return
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def exists(pid: int) -> bool:
    """Whether there is a process of that pid; a zombie is one."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def try_fork() -> int:
    """As `os.fork`, but -1 where the system has no room for another process."""
    try:
        return os.fork()
    except OSError:
        return -1


# Undocumented; multiprocessing builds its command lines with it.
_flags: Callable[[], list[str]] = vars(subprocess)["_args_from_interpreter_flags"]


def interpreter(module: str) -> list[str]:
    """The command line that runs a module in a fresh interpreter, with the options of this one.

    So `-W`, `-X` and `-O` hold in fresh interpreters as they do in forked containers.
    """
    return [sys.executable, *_flags(), *(() if sys.flags.safe_path else ("-P",)), "-m", module]


def send_signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to a child; one that is gone, or not there yet (0), is no error."""
    if pid > 0:  # 0 would be ourselves and our whole group
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
