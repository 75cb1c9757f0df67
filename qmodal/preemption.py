"""Take this container's box away, or so it seems: for programs that test how they bear it."""

from __future__ import annotations

import os
import random
import signal
import threading

from qmodal.client.context import is_local
from qmodal.exception import InvalidError

GRACE_SECONDS = 30.0


def schedule(wait_seconds: float, jitter_seconds: float) -> None:
    """SIGINT after the wait, and SIGKILL 30 s later for what has not ended by then."""
    if not wait_seconds > 0:
        raise ValueError("`wait_seconds` must be greater than 0")
    if is_local():
        raise InvalidError(
            "simulate_preemption works only in a container; call it from a function."
        )
    delay = wait_seconds + random.random() * jitter_seconds
    _after(delay, signal.SIGINT)
    _after(delay + GRACE_SECONDS, signal.SIGKILL)


def _after(seconds: float, number: signal.Signals) -> None:
    timer = threading.Timer(seconds, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()
