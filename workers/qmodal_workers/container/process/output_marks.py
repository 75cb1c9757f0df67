"""Says which input a container's output is of: in shared memory, and by marks in the pipes where that is not enough."""

from __future__ import annotations

import fcntl
import os
from array import array
from collections.abc import Sequence
from fcntl import ioctl
from termios import FIONREAD
from typing import TextIO

from qmodal_workers.ipc.output_words import (
    MARK_BYTES,
    NUMBER,
    STDERR,
    STDOUT,
    TURN,
    OutputWords,
    mark,
)

# Descriptors below are those that programs expect to get.
_LEAST_FD = 64


class OutputMarks:
    """Tells the reader of the output when an input begins and ends; by one thread, as inputs are run.

    `streams`: the stream objects of standard output and error. Descriptors of its own lead to the pipes,
    because user code may lead 1 and 2 elsewhere.
    """

    __slots__ = (
        "_call",
        "_flush_stderr",
        "_flush_stdout",
        "_index",
        "_memory",
        "_number",
        "_room",
        "_secret",
        "_stderr",
        "_stdout",
        "_words",
    )

    def __init__(
        self, memory: OutputWords, streams: Sequence[TextIO], *, stdout: int = 1, stderr: int = 2
    ) -> None:
        self._memory = memory
        self._words = memory.words
        self._secret = memory.secret
        self._flush_stdout, self._flush_stderr = (stream.flush for stream in streams)
        self._stdout, self._stderr = _Pipe(STDOUT, stdout), _Pipe(STDERR, stderr)
        self._number = 0
        self._call, self._index = b"", -1
        self._room = array("i", [0])

    def begin(self, call: str, index: int) -> None:
        """From here on this input runs; an empty call and -1 stand for several."""
        self._number += 1
        self._call, self._index = call.encode(), index
        self._memory.begin(self._number, self._call, index)

    def end(self) -> None:
        """It has ended; what it has printed is its own, whoever reads that later.

        If the pipes are empty, and nobody reads them in this moment, all that was printed has been read
        while this input ran. That is as a rule all there is to do, and is done for each input.
        """
        words, room = self._words, self._room
        try:
            self._flush_stdout()  # half a line that waits for its end
            self._flush_stderr()
            turn = words[TURN]
            ioctl(self._stdout.fd, FIONREAD, room)
            waiting = room[0]
            ioctl(self._stderr.fd, FIONREAD, room)
            if waiting or room[0] or turn & 1 or words[TURN] != turn:
                self._look(self._stdout)
                self._look(self._stderr)
        except (ValueError, OSError):  # user code has closed them
            self._flush_stdout = self._flush_stderr = _nothing
        words[NUMBER] = 0

    def _look(self, pipe: _Pipe) -> None:
        """Mark the place in the pipe, if something was printed since our last mark, or that cannot be told."""
        words, room = self._words, self._room
        taken = words[pipe.word]
        ioctl(pipe.fd, FIONREAD, room)
        if taken & 1 or words[pipe.word] != taken:
            self._mark(pipe, -1)
        elif room[0] and taken // 2 + room[0] != pipe.marked:
            self._mark(pipe, taken // 2 + room[0] + MARK_BYTES)

    def _mark(self, pipe: _Pipe, end: int) -> None:
        """`end`: how many bytes will have gone through the pipe then, -1 if that is not known."""
        if pipe.is_there:
            os.write(pipe.fd, mark(self._secret, self._call, self._index))
        pipe.marked = end


class _Pipe:
    """`marked`: how many bytes had gone through it with our last mark."""

    __slots__ = ("_identity", "fd", "marked", "word")

    def __init__(self, word: int, fd: int) -> None:
        self.word = word
        self.fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LEAST_FD)
        self._identity = os.fstat(self.fd)
        self.marked = 0

    @property
    def is_there(self) -> bool:
        """Whether the descriptor is still ours: user code may have closed it, and opened a file."""
        return os.path.samestat(os.fstat(self.fd), self._identity)


def _nothing() -> None:
    """In place of flushing a stream that is closed."""
