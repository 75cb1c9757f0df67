"""The thread that reads what containers print."""

from __future__ import annotations

import gc
import os
import threading

from qmodal_workers.output.lines import OutputBuffer
from qmodal_workers.output.pipes import Pipes
from tests.support.waiting import wait_until


def buffers() -> int:
    return sum(isinstance(each, OutputBuffer) for each in gc.get_objects())


def test_while_it_waits_nothing_is_kept_of_a_container_that_has_ended() -> None:
    before, pipes = buffers(), Pipes(lambda: None)
    (stdout, prints), (stderr, complains) = os.pipe(), os.pipe()
    for fd in (stdout, stderr):
        os.set_blocking(fd, False)
    go_on, is_finished = threading.Event(), threading.Event()
    pipes.open("ta-a-1", "ap", stdout=stdout, stderr=stderr)

    def hold_up() -> None:
        go_on.wait(10)

    pipes._ask(hold_up)
    # So that its last words and the request to finish are there at the same look.
    os.write(prints, b"last words\n")
    pipes.finish("ta-a-1", is_finished.set)
    go_on.set()
    assert is_finished.wait(10)
    assert [chunk.text for _, chunk in pipes.take()] == [b"last words\n"]
    wait_until(lambda: buffers() == before, what="its buffer is gone")
    for fd in (prints, complains):
        os.close(fd)
    pipes.close()
