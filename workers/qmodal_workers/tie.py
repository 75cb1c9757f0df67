"""Tie a child of the worker to it, before anything is imported that takes time."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1
# Found once: a library object makes a class of its own for its functions.
_prctl: Any = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, and end it if that has died (Linux).

    Without this a worker that was killed while a child was importing left the child behind.
    """
    if sys.platform != "linux":
        return
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def try_fork() -> int:
    """As `os.fork`, but -1 where the system has no room for another process."""
    try:
        return os.fork()
    except OSError:
        return -1
