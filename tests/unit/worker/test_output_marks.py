"""Which input has printed what is in a pipe: shared words, and marks where they are not enough."""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from qmodal_workers.container.process.output_marks import OutputMarks
from qmodal_workers.ipc.endpoints import wide_pipe
from qmodal_workers.ipc.output_words import STDOUT, OutputWords, Owner
from qmodal_workers.ipc.shared_record import SharedRecord
from qmodal_workers.output.attribution import READ_BYTES, AttributedPipe

CALL = "fc-45O5NRqurBqcQBjO000001"
OTHER = "fc-45" + "ab" * 16


@dataclass
class Printer:
    """A container that prints to one pipe, and the worker's end of it."""

    record: SharedRecord = field(default_factory=SharedRecord.create)

    def __post_init__(self) -> None:
        self.record.output.draw_secret()
        self.reading, self.writing = wide_pipe()
        self.quiet, self.unused = wide_pipe()
        self.stream = os.fdopen(self.writing, "w", buffering=1, closefd=False)
        self.marks = OutputMarks(
            self.words, [self.stream, self.stream], stdout=self.writing, stderr=self.unused
        )
        self.pipe = AttributedPipe(self.reading, STDOUT, self.words)

    @property
    def words(self) -> OutputWords:
        return self.record.output

    def print(self, text: str) -> None:
        os.write(self.writing, text.encode())

    def run(self, index: int, text: str = "", *, call: str = CALL) -> None:
        """An input that prints this."""
        self.marks.begin(call, index)
        self.print(text)
        self.marks.end()

    def read(self) -> list[tuple[bytes, Owner]]:
        """All that is there, put together where it is one input's."""
        found: list[tuple[bytes, Owner]] = []
        while True:
            try:
                parts = self.pipe.read() or []
            except BlockingIOError:
                return found
            for text, owner in parts:
                if found and found[-1][1] == owner:
                    text = found.pop()[0] + text
                found.append((text, owner))

    def waiting(self) -> int:
        """Bytes that have not been read."""
        return self.marks._pipes[0].size()


@pytest.fixture
def printer() -> Iterator[Printer]:
    made = Printer()
    yield made
    for fd in (made.reading, made.writing, made.quiet, made.unused):
        os.close(fd)


def test_what_is_read_late_is_of_those_that_have_printed_it(printer: Printer) -> None:
    printer.run(0, "one\n")
    printer.run(1)
    printer.run(2, "two\nthree\n", call=OTHER)
    printer.marks.begin(CALL, 3)
    printer.print("four\n")
    assert printer.read() == [
        (b"one\n", Owner(CALL, 0)),
        (b"two\nthree\n", Owner(OTHER, 2)),
        (b"four\n", Owner(CALL, 3)),
    ]


def test_what_is_read_at_once_needs_no_mark(printer: Printer) -> None:
    printer.marks.begin(CALL, 7)
    printer.print("now\n")
    assert printer.read() == [(b"now\n", Owner(CALL, 7))]
    printer.marks.end()
    assert printer.waiting() == 0


def test_between_two_inputs_it_is_nobodys(printer: Printer) -> None:
    printer.run(0, "own\n")
    printer.print("of a thread that goes on\n")
    assert printer.read() == [(b"own\n", Owner(CALL, 0)), (b"of a thread that goes on\n", Owner())]


def test_inputs_that_print_nothing_write_nothing_however_late_the_reader_is(
    printer: Printer,
) -> None:
    printer.run(0, "one\n")
    size = printer.waiting()
    for index in range(1, 100):
        printer.run(index)
    assert printer.waiting() == size


def test_half_a_line_in_a_buffer_is_of_the_input_that_has_printed_it(printer: Printer) -> None:
    printer.marks.begin(CALL, 0)
    printer.stream.write("half")
    printer.run(1, "whole\n")
    assert printer.read() == [(b"half", Owner(CALL, 0)), (b"whole\n", Owner(CALL, 1))]


def test_an_input_that_begins_ends_the_one_before(printer: Printer) -> None:
    printer.marks.begin(CALL, 0)
    printer.print("first\n")
    printer.marks.begin(CALL, 1)
    printer.print("second\n")
    printer.marks.end()
    printer.marks.end()
    assert [owner.part for _, owner in printer.read()] == [0, 1]


@pytest.mark.parametrize(
    "size", [READ_BYTES - cut for cut in (72, 71, 60, 17, 16, 15, 1, 0, -1)] + [3 * READ_BYTES - 20]
)
def test_a_mark_that_a_read_cuts_is_put_together(printer: Printer, size: int) -> None:
    printer.run(0, "x" * size)
    printer.run(1, "y")
    printer.run(2)
    assert printer.read() == [(b"x" * size, Owner(CALL, 0)), (b"y", Owner(CALL, 1))]


def test_what_looks_like_the_beginning_of_a_mark_is_not_lost(printer: Printer) -> None:
    secret = printer.words.secret
    text = b"z" * (READ_BYTES - 3) + secret[:3]
    printer.marks.begin(CALL, 0)
    os.write(printer.writing, text)
    assert printer.read() == [(text, Owner(CALL, 0))]


def test_a_mark_without_the_secret_is_text(printer: Printer) -> None:
    printer.marks.begin(CALL, 0)
    forged = b"\x00" * 16 + (5).to_bytes(8, "little") + b"fc-forged".ljust(48, b"\0")
    os.write(printer.writing, forged)
    printer.marks.end()
    assert printer.read() == [(forged, Owner(CALL, 0))]


def test_nothing_is_written_to_a_file_that_has_the_number_of_a_closed_pipe(
    printer: Printer, tmp_path: object
) -> None:
    fd = printer.marks._pipes[0].fd
    printer.marks.begin(CALL, 0)
    printer.print("text")
    other = os.open(f"{tmp_path}/file", os.O_RDWR | os.O_CREAT)
    os.dup2(other, fd)
    os.write(fd, b"not read yet")
    os.lseek(fd, 0, os.SEEK_SET)
    printer.marks.end()
    assert os.fstat(fd).st_size == len("not read yet")
    os.close(other)


def test_without_descriptors_inputs_go_on(printer: Printer) -> None:
    for pipe in printer.marks._pipes:
        os.close(pipe.fd)
        os.close(pipe.reading)
    printer.run(0, "one\n")
    printer.run(1, "two\n")
    assert b"".join(text for text, _ in printer.read()) == b"one\ntwo\n"


def test_where_nobody_can_ask_for_the_size_of_a_pipe_each_input_leaves_a_mark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    printer = Printer()
    printer.run(0, "one\n")
    printer.run(1)
    printer.run(2, "two\n")
    assert printer.read() == [(b"one\n", Owner(CALL, 0)), (b"two\n", Owner(CALL, 2))]


def test_the_end_of_a_pipe_is_told_once_all_is_read(printer: Printer) -> None:
    printer.run(0, "last\n")
    pipe = printer.pipe
    assert pipe.read() == [(b"last\n", Owner(CALL, 0))]
    with pytest.raises(BlockingIOError):
        pipe.read()


def test_every_line_is_of_its_input_while_both_are_at_work(printer: Printer) -> None:
    count, ended, draw = 2000, threading.Event(), random.Random(7)
    found: list[tuple[bytes, Owner]] = []

    def read() -> None:
        while not ended.is_set():
            found.extend(printer.read())
        found.extend(printer.read())

    reader = threading.Thread(target=read)
    reader.start()
    for index in range(count):
        printer.marks.begin(CALL, index)
        for _ in range(draw.choice([0, 0, 1, 1, 3])):
            printer.print(f"{index}\n")
            if draw.random() < 0.05:
                os.sched_yield()
        printer.marks.end()
    ended.set()
    reader.join()
    wrong = [
        (text, owner)
        for text, owner in found
        if {int(number) for number in text.split()} != {owner.part}
    ]
    assert wrong == []
    assert found
