"""Which input a container runs, for the worker that reads its output: words of their shared memory, and marks.

Programs that user code starts, and C code, write to a pipe without our help, so bytes are told apart by their
place in it. Mostly the words are enough: while the worker reads, one input runs, and at the end of that
input the pipe is empty. Only if it is not, or is being read in that moment, the container writes a mark behind
the input's last byte: a secret of this container, and the input. So an input that prints nothing costs two
questions to the system, and nothing is written for it.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

# The id of a map with a key has 37 characters.
_CALL_BYTES = 48
INPUT = struct.Struct(f"<Qq{_CALL_BYTES}sQ")
_OWNER = struct.Struct(f"<q{_CALL_BYTES}s")
# The words: the number of the input, its index and its call, the number again; then those of the pipes.
# An input has ended when 0 is written in the place of its number.
NUMBER, _REPEATED = 0, INPUT.size // 8 - 1
STDOUT, STDERR, TURN = (INPUT.size // 8 + number for number in range(3))
_SECRET_AT = INPUT.size + 24
_SECRET_BYTES = 16
MARK_BYTES = _SECRET_BYTES + _OWNER.size
SIZE = _SECRET_AT + _SECRET_BYTES


class Owner(NamedTuple):
    """The input that has printed something: its call, and `part`, its index there; "" and -1 if that is not known."""

    call: str = ""
    part: int = -1


NOBODY = Owner()


class Running(NamedTuple):
    """What the container runs: a number for each input, 0 for none, -1 if it is just being written."""

    number: int
    owner: Owner


class OutputWords:
    """The words, for both sides; `memory` is their part of the record.

    The word of a pipe, STDOUT or STDERR, is twice the number of bytes that the worker has read, plus one
    while it is about to read more. TURN counts the beginnings and ends of reading either of them. The number of an input is written before the rest and after it.
    """

    __slots__ = ("memory", "words")

    def __init__(self, memory: memoryview) -> None:
        self.memory = memory
        self.words = memory.cast("Q")

    def draw_secret(self) -> None:
        """The worker, once: what marks begin with, so that nothing that is printed looks like one."""
        self.memory[_SECRET_AT:SIZE] = os.urandom(_SECRET_BYTES)

    @property
    def secret(self) -> bytes:
        """What marks begin with."""
        return bytes(self.memory[_SECRET_AT:SIZE])

    def begin_reading(self, pipe: int) -> Running:
        """The worker: it is about to read that pipe; what runs before that."""
        self.words[TURN] |= 1
        self.words[pipe] |= 1
        return self.running()

    def end_reading(self, pipe: int, count: int) -> Running:
        """The worker: it has read so many bytes; what runs after that."""
        running = self.running()
        self.words[pipe] += 2 * count - 1
        self.words[TURN] += 1
        return running

    def running(self) -> Running:
        """The worker: what runs."""
        repeated = self.words[_REPEATED]
        index, call = _OWNER.unpack_from(self.memory, 8)
        number = self.words[NUMBER]
        if number == 0:
            return Running(0, NOBODY)
        return Running(number, _owner(index, call)) if number == repeated else Running(-1, NOBODY)


def mark(secret: bytes, call: bytes, index: int) -> bytes:
    """What says in a pipe that all since the last mark was printed by that input."""
    return secret + _OWNER.pack(index, call)


def owner_in(content: bytes, start: int) -> Owner:
    """The owner that the mark at this place says."""
    return _owner(*_OWNER.unpack_from(content, start + _SECRET_BYTES))


def _owner(index: int, call: bytes) -> Owner:
    return Owner(call.rstrip(b"\0").decode("ascii", "replace"), index)
