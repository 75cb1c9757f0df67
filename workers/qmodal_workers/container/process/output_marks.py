"""Says which input a container's output is of: in shared memory, and by marks in the pipes where that is not enough."""

from __future__ import annotations

import fcntl
import os
import termios
from collections.abc import Iterable
from contextlib import suppress
from typing import TextIO

from qmodal_workers.ipc.output_words import MARK_BYTES, OutputWords, mark

_FIONREAD = termios.FIONREAD
# Descriptors below are those that programs expect to get.
_LEAST_FD = 64


class OutputMarks:
    """Tells the reader of the output when an input begins and ends; by one thread, as inputs are run.

    Descriptors of its own lead to the pipes, because user code may lead 1 and 2 elsewhere.
    """

    __slots__ = (
        "_call",
        "_flushes",
        "_index",
        "_number",
        "_pipes",
        "_room",
        "_secret",
        "_words",
    )

    def __init__(
        self,
        words: OutputWords,
        streams: Iterable[TextIO] = (),
        *,
        stdout: int = 1,
        stderr: int = 2,
    ) -> None:
        self._words = words
        self._flushes = [stream.flush for stream in streams]
        self._secret = words.secret
        self._pipes = [_Pipe(number, fd) for number, fd in enumerate((stdout, stderr))]
        self._number = 0
        self._call, self._index = b"", -1
        self._room = bytearray(4)

    def begin(self, call: str, index: int) -> None:
        """From here on this input runs; an empty call and -1 stand for several."""
        self._number += 1
        self._call, self._index = call.encode(), index
        self._words.begin(self._number, self._call, index)

    def end(self) -> None:
        """It has ended; what it has printed is its own, whoever reads that later.

        For each pipe: is it empty, and nobody reads it in this moment, then all that was printed has
        been read while this input ran. Is it as it was behind our last mark, then nothing was printed.
        """
        words, room = self._words, self._room
        try:
            for flush in self._flushes:  # half a line that waits for its end
                flush()
        except (ValueError, OSError):  # user code has closed it
            self._flushes = []
        for pipe in self._pipes:
            taken = words.taken(pipe.number)
            try:
                fcntl.ioctl(pipe.fd, _FIONREAD, room)
            except OSError:  # user code has closed descriptors that are not its own
                continue
            waiting = int.from_bytes(room, "little")
            if taken & 1 or words.taken(pipe.number) != taken:
                self._mark(pipe, -1)
            elif waiting and taken // 2 + waiting != pipe.marked:
                self._mark(pipe, taken // 2 + waiting + MARK_BYTES)
        words.end()

    def _mark(self, pipe: _Pipe, end: int) -> None:
        """`end`: how many bytes will have gone through the pipe then, -1 if that is not known."""
        with suppress(OSError):
            if pipe.is_there:
                os.write(pipe.fd, mark(self._secret, self._call, self._index))
        pipe.marked = end


class _Pipe:
    """`marked`: how many bytes had gone through it with our last mark."""

    __slots__ = ("_identity", "fd", "marked", "number")

    def __init__(self, number: int, fd: int) -> None:
        self.number = number
        self.fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LEAST_FD)
        self._identity = os.fstat(self.fd)
        self.marked = 0

    @property
    def is_there(self) -> bool:
        """Whether the descriptor is still ours: user code may have closed it, and opened a file."""
        return os.path.samestat(os.fstat(self.fd), self._identity)
