"""The queue between a map's input iterator and the server: who may go on, and what is submitted."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from qmodal.functions.map.feeders import READ_AHEAD, InputQueue, ThreadFeeder
from qmodal.functions.map.inputs import Arguments
from qmodal.transport.operation import Op

CHUNK = 3


class FakeMapCall:
    """A map call that takes note of what it is fed."""

    def __init__(self, room: int = 100) -> None:
        self.room = room
        self.chunk = CHUNK
        self.submitted = self.settled = 0
        self.is_fed = False
        self.reorder = SimpleNamespace(is_ready=False, waiting=0)
        self.fed: list[tuple[list[int], bool]] = []

    def feed(self, chunk: Sequence[Arguments], *, is_last: bool) -> Op[None]:
        yield from ()
        self.fed.append(([args[0] for args, _ in chunk], is_last))
        self.submitted += len(chunk)
        self.is_fed = is_last


def queue_of(call: FakeMapCall, count: int) -> InputQueue:
    stands_for: Any = call
    queue = InputQueue(stands_for)
    for number in range(count):
        queue.put(((number,), {}))
    return queue


def submit(queue: InputQueue) -> None:
    with pytest.raises(StopIteration):
        next(queue.submit())


def test_only_what_empties_a_queue_whose_iterator_has_ended_is_the_last() -> None:
    call = FakeMapCall()
    queue = queue_of(call, 4)
    submit(queue)
    submit(queue)
    assert not queue.can_submit()
    queue.is_read = True
    assert queue.can_submit()
    submit(queue)
    assert call.fed == [([0, 1, 2], False), ([3], False), ([], True)]
    assert queue.is_submitted


def test_no_more_is_submitted_than_there_is_room_for() -> None:
    call = FakeMapCall(room=2)
    queue = queue_of(call, 5)
    submit(queue)
    assert call.fed == [([0, 1], False)]
    call.room = 0
    assert not queue.can_submit()
    call.room = -1  # inputs became slower, so that fewer may be outstanding
    submit(queue)
    assert call.fed[1:] == [([], False)]


def test_the_iterator_is_read_only_so_far_ahead() -> None:
    queue = queue_of(FakeMapCall(), READ_AHEAD - 1)
    assert queue.has_room()
    queue.put(((0,), {}))
    assert not queue.has_room()


@pytest.mark.parametrize("end", ["is_stopped", "error"])
def test_an_end_lets_everybody_go_on(end: str) -> None:
    queue = queue_of(FakeMapCall(room=0), READ_AHEAD)
    assert not any((queue.has_room(), queue.can_submit(), queue.is_submitted))
    setattr(queue, end, ValueError() if end == "error" else True)
    assert all((queue.has_room(), queue.can_submit(), queue.is_submitted))


def test_the_consumer_waits_until_something_has_no_result_or_failed() -> None:
    call = FakeMapCall()
    queue = queue_of(call, 1)
    assert not queue.has_news()
    submit(queue)
    assert queue.has_news()
    call.settled = 1
    assert not queue.has_news()
    call.reorder.is_ready = True
    assert queue.has_news()
    call.reorder.is_ready = False
    queue.error = ValueError()
    assert queue.has_news()


def test_nothing_begins_before_the_consumer_waits() -> None:
    """Who is interrupted before that would not stop it."""
    before, read = threading.active_count(), list[int]()
    made: Any = ThreadFeeder
    made(None, None, map(read.append, range(3)))
    assert (threading.active_count(), read) == (before, [])
