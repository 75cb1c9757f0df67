"""Signals are for the main thread: it is woken for each, and our own threads are given none.

The system gives a signal of the process to any thread, as a rule to the main one. One that is just
starting takes what was meant for that. Python runs handlers on the main thread only, and this does not
notice while it waits in its loop, or in a system call.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module

# These are given to the thread that has caused them, and must end the process whatever is blocked.
_CAUSED = {
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGABRT,
}
_OTHERS = frozenset(signal.valid_signals() - _CAUSED)
_NOBODY = -1
# The one in `signal` tries to find an enumeration for each signal that it returns, which takes 0.1 ms.
_mask = import_module("_signal").pthread_sigmask


@contextmanager
def unsignalled() -> Iterator[None]:
    """A thread that is started within is given no signals.

    Not for threads of user code: the programs that it starts there would not hear any, either.
    """
    before = _mask(signal.SIG_BLOCK, _OTHERS)
    try:
        yield
    finally:
        _mask(signal.SIG_SETMASK, before)


class Waker:
    """Wakes a loop on the main thread for every signal, whichever thread the system has given it to."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._readable, self._writable = socket.socketpair()
        for end in (self._readable, self._writable):
            end.setblocking(False)
        loop.add_reader(self._readable, self._drain)

    def arm(self) -> None:
        """Wake it from now on, on the main thread; if user code has set a descriptor of its own, that stays."""
        own = self._writable.fileno()
        with suppress(
            ValueError, OSError
        ):  # another thread runs the loop, or user code has closed it
            before = signal.set_wakeup_fd(own, warn_on_full_buffer=False)
            if before not in (_NOBODY, own):
                signal.set_wakeup_fd(before)

    def disarm(self) -> None:
        """Wake it no more."""
        with suppress(ValueError, OSError):
            before = signal.set_wakeup_fd(_NOBODY)
            if before != self._writable.fileno():
                signal.set_wakeup_fd(before)

    def close(self) -> None:
        """Wake it no more, as it is closed."""
        self.disarm()
        self._readable.close()
        self._writable.close()

    def _drain(self) -> None:
        # What has come does not matter: Python runs the handlers before anything else.
        with suppress(BlockingIOError):
            self._readable.recv(4096)
