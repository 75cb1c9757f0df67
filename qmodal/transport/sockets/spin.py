"""Look for a reply for a moment before sleeping: to wake up takes longer than to answer.

A sequential call wakes four processes one after another, and most of its time was their waking up.
Whoever looks lets others have the processor between two looks, and does so for 0.3 ms at most, and
only if the wait before was about as short: what waits for long costs nothing.
"""

from __future__ import annotations

import _socket
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import TypeGuard

# How long to look for a reply before sleeping.
SPIN_SECONDS = 0.0003
# After a wait of up to that length the next one is expected to be short, too.
SHORT_WAIT_SECONDS = 0.0006
_NOW = socket.MSG_DONTWAIT
_give_way: Callable[[], None] = getattr(os, "sched_yield", lambda: time.sleep(0))
# Threads that look at the same time would only keep the interpreter lock from each other.
_turn = threading.Lock()


def is_plain(sock: object) -> TypeGuard[socket.socket]:
    """Whether it is a socket as the system has it: not TLS, which knows no flags, nor one of gevent."""
    return type(sock).__base__ is _socket.socket


class Spin:
    """How to wait for one kind of reply, learned from the last wait."""

    __slots__ = ("_is_quick",)

    def __init__(self) -> None:
        self._is_quick = False

    def receive(self, sock: socket.socket, buffer: memoryview) -> int:
        """As `sock.recv_into`."""
        begin = time.perf_counter()
        count = self._look(sock, buffer, begin + SPIN_SECONDS) if self._is_quick else None
        if count is None:
            count = sock.recv_into(buffer)
        is_native = type(sock).__base__ is _socket.socket
        self._is_quick = is_native and time.perf_counter() - begin < SHORT_WAIT_SECONDS
        return count

    def _look(self, sock: socket.socket, buffer: memoryview, until: float) -> int | None:
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
