"""The thread that reads what containers print."""

from __future__ import annotations

import gc
import os
import selectors
import threading

import pytest

from qmodal_workers.output.lines import OutputBuffer
from qmodal_workers.output.pipes import Pipes
from tests.support.waiting import wait_until


def buffers() -> int:
    return sum(isinstance(each, OutputBuffer) for each in gc.get_objects())


def test_while_it_waits_nothing_is_kept_of_a_container_that_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    select = selectors.DefaultSelector.select
    # The system gives them in either order; the request to finish before the pipe is the worse one.
    monkeypatch.setattr(
        selectors.DefaultSelector,
        "select",
        lambda self, timeout=None: sorted(
            select(self, timeout), key=lambda each: each[0].data is not None
        ),
    )
    has_read, go_on, is_finished = threading.Event(), threading.Event(), threading.Event()

    def notify() -> None:
        has_read.set()
        go_on.wait(10)

    before, pipes = buffers(), Pipes(notify)
    (stdout, prints), (stderr, complains) = os.pipe(), os.pipe()
    for fd in (stdout, stderr):
        os.set_blocking(fd, False)
    pipes.open("ta-a-1", "ap", stdout=stdout, stderr=stderr)
    os.write(prints, b"first words\n")
    assert has_read.wait(10)
    # While the thread is held up, so that its next look finds both.
    pipes.finish("ta-a-1", is_finished.set)
    os.write(prints, b"last words\n")
    go_on.set()
    assert is_finished.wait(10)
    assert b"".join(chunk.text for _, chunk in pipes.take()).endswith(b"last words\n")
    wait_until(lambda: buffers() == before, what="its buffer is gone")
    for fd in (prints, complains):
        os.close(fd)
    pipes.close()
