"""Makes a process a container: a session and output of its own, and killed when the worker dies."""

from __future__ import annotations

import io
import os
import sys
import time
from typing import Any, TextIO

from qmodal_workers.container.process.output_file import OutputFile
from qmodal_workers.ipc.processes import die_with_parent
from qmodal_workers.ipc.start_request import Descriptors

# The stream objects that we have made; user code may have put others in their place.
_streams: list[TextIO] = []


def become(descriptors: Descriptors, *, parent: int) -> None:
    """Detach from the parent, write output to the worker's pipes, and die with the worker (`parent`)."""
    # So that a terminal's Ctrl-C does not reach it: the worker decides about containers.
    os.setsid()
    speak_through(descriptors.stdout, descriptors.stderr)
    for fd in (descriptors.control, descriptors.record):
        os.set_inheritable(fd, False)  # programs that user code starts must not have them
    die_with(parent)


def speak_through(stdout: int, stderr: int) -> None:
    """Make these descriptors the standard output and error, and /dev/null the standard input."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (stdout, 1), (stderr, 2)):
        os.dup2(source, target)
        os.close(source)
    if _streams == [sys.stdin, sys.stdout, sys.stderr]:
        return  # made by the template: they refer to descriptors 0 to 2, and hold nothing unwritten
    # New objects: the old ones may believe that they are files, which can seek.
    _streams[:] = [_input(), _output(1), _output(2)]
    for name, stream in zip(("stdin", "stdout", "stderr"), _streams, strict=True):
        _name(stream, f"<{name}>")
        setattr(sys, name, stream)
        # `sys.__stdout__`, too: text in a stream object that nobody flushes would be lost.
        setattr(sys, f"__{name}__", stream)


def own_streams() -> list[TextIO]:
    """Standard output and error as `speak_through` has made them."""
    return _streams[1:]


def _input() -> TextIO:
    return open(0, encoding="utf-8", closefd=False)


def _output(fd: int) -> TextIO:
    # A line printed before a SIGKILL is lost in a block buffer.
    buffer = io.BufferedWriter(OutputFile(fd))
    made: Any = io.TextIOWrapper(buffer, "utf-8", "backslashreplace", line_buffering=True)
    made.mode = "w"  # as `open` says it
    return made  # type: ignore[no-any-return]


def _name(stream: Any, name: str) -> None:
    """Give a stream the name of Python's own; `open` has named it by its descriptor's number."""
    stream.buffer.raw.name = name


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the worker (`parent`; 0: none) dies (Linux).

    Waits until the worker is our parent, which it becomes as a subreaper because the template forks
    twice; set before that, the signal would come when the middle process ends.
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
    """Reseed numpy, so that two forks of one template draw different numbers (`random` reseeds itself)."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
