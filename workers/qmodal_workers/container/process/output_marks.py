"""Says which input a container's output is of: in shared memory, and by marks in the pipes where that is not enough."""

from __future__ import annotations

import os
import select
import sys
from array import array
from collections.abc import Callable, Sequence
from fcntl import F_DUPFD_CLOEXEC, fcntl, ioctl
from functools import partial
from select import PIPE_BUF
from termios import FIONREAD
from typing import TYPE_CHECKING, TextIO

from qmodal.client import context
from qmodal_workers.container.process.output_file import OutputFile
from qmodal_workers.ipc.output_words import (
    INPUT,
    MARK_BYTES,
    NUMBER,
    STDERR,
    STDOUT,
    TURN,
    OutputWords,
    mark,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer
# Descriptors below are those that programs expect to get.
_LEAST_FD = 64
# The system writes as much to a pipe in one piece.
_MOST_AT_ONCE = PIPE_BUF - 2 * MARK_BYTES


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
        "_is_shared",
        "_memory",
        "_number",
        "_pipes",
        "_secret",
        "_waiting",
        "_words",
    )

    def __init__(
        self, memory: OutputWords, streams: Sequence[TextIO], *, stdout: int = 1, stderr: int = 2
    ) -> None:
        self._memory = memory.memory
        self._words = memory.words
        self._secret = memory.secret
        self._flush_stdout, self._flush_stderr = (stream.flush for stream in streams)
        files = [_file_of(stream) for stream in streams]
        self._pipes: tuple[_Pipe, ...] = (
            _Pipe(STDOUT, stdout, files[0]),
            _Pipe(STDERR, stderr, files[1]),
        )
        self._is_shared = False
        self._waiting = _poll_of(self._pipes) or _perhaps
        self._number = 0
        self._call, self._index = b"", -1

    def begin(self, call: str, index: int) -> None:
        """From here on this input runs, and no other; -1 stands for several of that call, or of any if it is empty."""
        words = self._words
        if words[NUMBER]:
            self.end()
        if self._is_shared is not (index < 0):
            self._share(index < 0)
        self._call = name = call.encode()
        self._index = index
        self._number = number = self._number + 1
        INPUT.pack_into(self._memory, 0, number, index, name, number)

    def end(self) -> None:
        """If an input has not ended yet: what it has printed is its own, whoever reads that later.

        If the pipes are empty, and nobody reads them in this moment, all that was printed has been read
        while this input ran. That is as a rule all there is to do, and is done for each input.
        """
        words = self._words
        if not words[NUMBER]:
            return
        try:
            self._flush_stdout()  # half a line that waits for its end
            self._flush_stderr()
        except (ValueError, OSError):  # user code has closed it
            self._flush_stdout = self._flush_stderr = _nothing
        turn = words[TURN]
        try:
            if self._waiting(0) or turn & 1 or words[TURN] != turn:
                for pipe in self._pipes:
                    self._look(pipe)
        except (ValueError, OSError):  # user code has closed descriptors that are not its own
            self._pipes, self._waiting = (), _nothing
        words[NUMBER] = 0

    def _share(self, is_shared: bool) -> None:
        """While several inputs run, or short ones one after another, what Python code prints says whose it is.

        Each line is written with a mark behind it, and one before it, for what others have written there.
        That costs nothing where nothing is printed, unlike a look at the pipes between two short inputs.
        """
        self._is_shared = is_shared
        for pipe in self._pipes:
            if pipe.file is not None:
                pipe.file.instead = partial(self._write_marked, pipe) if is_shared else None

    def _write_marked(self, pipe: _Pipe, data: Buffer) -> int | None:
        """Write something that Python code prints, with marks; how many bytes of it."""
        assert pipe.file is not None
        owner = context.current_input()
        if owner is None or not pipe.is_printed_to:
            return pipe.file.write_as_it_is(data)
        before = mark(self._secret, self._call, -1)
        behind = mark(self._secret, owner[0].encode(), owner[1])
        if memoryview(data).nbytes <= _MOST_AT_ONCE:  # in one piece, whoever else writes there
            os.write(pipe.fd, b"".join((before, data, behind)))
            return memoryview(data).nbytes
        os.write(pipe.fd, before)
        try:
            return pipe.file.write_as_it_is(data)
        finally:
            os.write(pipe.fd, behind)

    def _look(self, pipe: _Pipe) -> None:
        """Mark the place in the pipe, if something was printed since our last mark, or that cannot be told."""
        taken = self._words[pipe.word]
        size = pipe.size()
        if size < 0 or taken & 1 or self._words[pipe.word] != taken:
            self._mark(pipe, -1)
        elif size and taken // 2 + size != pipe.marked:
            self._mark(pipe, taken // 2 + size + MARK_BYTES)

    def _mark(self, pipe: _Pipe, end: int) -> None:
        """`end`: how many bytes will have gone through the pipe then, -1 if that is not known."""
        if pipe.is_there:
            os.write(pipe.fd, mark(self._secret, self._call, self._index))
        pipe.marked = end


class _Pipe:
    """`marked`: how many bytes had gone through it with our last mark. `reading`: its other end, -1 without one.

    `file` is what Python code prints to.
    """

    __slots__ = ("_identity", "_room", "fd", "file", "marked", "reading", "word")

    def __init__(self, word: int, fd: int, file: OutputFile | None) -> None:
        self.word = word
        self.file = file
        self.fd = fcntl(fd, F_DUPFD_CLOEXEC, _LEAST_FD)
        self.reading = -1
        self.marked = 0
        self._identity = os.fstat(self.fd)
        self._room = array("i", [0])

    def size(self) -> int:
        """How many bytes are in it; -1 if that cannot be told."""
        if self.reading < 0:
            return -1
        ioctl(self.reading, FIONREAD, self._room)
        return self._room[0]

    @property
    def is_there(self) -> bool:
        """Whether the descriptor is still ours: user code may have closed it, and opened a file."""
        return os.path.samestat(os.fstat(self.fd), self._identity)

    @property
    def is_printed_to(self) -> bool:
        """Whether what Python code prints goes there, too: user code may have led it elsewhere, or closed it."""
        if self.file is None:
            return False
        try:
            printed_to = os.fstat(self.file.fileno())
            return os.path.samestat(printed_to, self._identity) and self.is_there
        except (ValueError, OSError):
            return False


def _file_of(stream: TextIO) -> OutputFile | None:
    """What is below a stream object; None if that is none of ours."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, OutputFile) else None


def _poll_of(pipes: Sequence[_Pipe]) -> Callable[[int], object] | None:
    """A function that says whether there is something in one of the pipes, by one system call.

    For that the container opens the pipes' other ends, too, and reads nothing. Nobody misses the SIGPIPE
    that this keeps away: the container dies with its worker. None where they cannot be opened, as on
    macOS: there each input leaves marks.
    """
    if sys.platform != "linux":
        return None
    made = select.epoll()
    both = select.epoll.fromfd(fcntl(made.fileno(), F_DUPFD_CLOEXEC, _LEAST_FD))
    made.close()
    try:
        for pipe in pipes:
            other_end = os.open(f"/proc/self/fd/{pipe.fd}", os.O_RDONLY | os.O_NONBLOCK)
            pipe.reading = _moved(other_end)
            both.register(pipe.reading, select.EPOLLIN)
    except OSError:  # no /proc
        return None
    return both.poll


def _moved(fd: int) -> int:
    moved = fcntl(fd, F_DUPFD_CLOEXEC, _LEAST_FD)
    os.close(fd)
    return moved


def _perhaps(_seconds: int) -> bool:
    """Where nobody can tell whether there is something in a pipe."""
    return True


def _nothing(_seconds: int = 0) -> None:
    """In place of what is closed."""
