"""Become a container: own session, own output, and gone when the worker is gone."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TextIO

from qmodal_workers.start import Descriptors
from qmodal_workers.tie import die_with_parent

# Ours, as long as user code has not put others in their place.
_streams: list[TextIO] = []


def become(descriptors: Descriptors, *, parent: int) -> None:
    """Detach from whoever forked us, and send our output to the worker's pipes."""
    os.setsid()
    os.umask(0o077)
    speak_through(descriptors.stdout, descriptors.stderr)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(
        signal.SIGPIPE, signal.SIG_IGN
    )  # as Python has it: a lost connection kills nobody
    # A terminal's Ctrl-C is for the client; the worker decides about containers.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    die_with(parent)


def speak_through(stdout: int, stderr: int) -> None:
    """Make these the standard output and error, and nothing the standard input."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (stdout, 1), (stderr, 2)):
        os.dup2(source, target)
        os.close(source)
    if _streams == [sys.stdin, sys.stdout, sys.stderr]:
        return  # as the template has made them: they hold numbers, and nothing unwritten
    # New objects: the old ones may believe that they are files, which can seek.
    sys.stdin = _stdin()
    # A line printed before a SIGKILL is lost in a block buffer.
    sys.stdout, sys.stderr = _text(1), _text(2)
    _streams[:] = [sys.stdin, sys.stdout, sys.stderr]


def _stdin() -> TextIO:
    return open(0, encoding="utf-8", closefd=False)


def _text(fd: int) -> TextIO:
    return open(fd, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the worker dies (Linux).

    The template forks twice, so that the worker (a subreaper) becomes our parent; set before
    that, the signal would come when the template dies.
    """
    if not parent or sys.platform != "linux":
        return
    ends = time.monotonic() + 2.0
    while os.getppid() != parent:
        if time.monotonic() > ends:
            os._exit(1)
        time.sleep(0.0002)
    die_with_parent(parent)


def reseed() -> None:
    """Two forks of one template would draw the same numbers from numpy (`random` reseeds itself)."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
