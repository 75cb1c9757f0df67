"""Look for a reply for a moment before sleeping: a process that sleeps takes longer to wake than a call.

A sequential call wakes four processes one after another, and most of its time was their waking up.
Whoever waits here lets others have the processor between two looks, looks for 0.2 ms at most, and
only if the wait before was about as short: what waits for long costs nothing.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable

SPIN_SECONDS = 0.0003
# After a wait of up to that length the next one is expected to be short, too.
QUICK_SECONDS = 0.0006
_NOW = socket.MSG_DONTWAIT
_give_way: Callable[[], None] = getattr(os, "sched_yield", lambda: time.sleep(0))
# Threads that look at the same time would only keep the interpreter lock from each other.
_turn = threading.Lock()


def spin(sock: socket.socket, buffer: memoryview, until: float) -> int | None:
    """How many bytes came before that moment of `time.perf_counter`; None if none did."""
    if not _turn.acquire(blocking=False):
        return None
    try:
        while time.perf_counter() < until:
            try:
                return sock.recv_into(buffer, 0, _NOW)
            except BlockingIOError:
                _give_way()
        return None
    finally:
        _turn.release()
