"""Become a container: own session, own output, and gone when the worker is gone."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, TextIO

from qmodal_workers.ipc.processes import die_with_parent
from qmodal_workers.ipc.start_request import Descriptors

# Ours, as long as user code has not put others in their place.
_streams: list[TextIO] = []


def become(descriptors: Descriptors, *, parent: int) -> None:
    """Detach from whoever forked us, and send our output to the worker's pipes."""
    # A terminal's Ctrl-C is for the client; the worker decides about containers.
    os.setsid()
    speak_through(descriptors.stdout, descriptors.stderr)
    for fd in (descriptors.control, descriptors.record):
        os.set_inheritable(fd, False)  # no business of a program that user code starts
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
    _streams[:] = [_input(), _output(1), _output(2)]
    for name, stream in zip(("stdin", "stdout", "stderr"), _streams, strict=True):
        _name(stream, f"<{name}>")
        setattr(sys, name, stream)
        # Also for whoever asks for the first ones: what an object that nobody flushes holds is lost.
        setattr(sys, f"__{name}__", stream)


def _input() -> TextIO:
    return open(0, encoding="utf-8", closefd=False)


def _output(fd: int) -> TextIO:
    # A line printed before a SIGKILL is lost in a block buffer.
    return open(fd, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)


def _name(stream: Any, name: str) -> None:
    """As Python's own are called; `open` calls them by their numbers."""
    stream.buffer.raw.name = name


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
