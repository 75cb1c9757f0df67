"""The stages of a prefetch, and the order of the two locks around it."""

from __future__ import annotations

import pytest

from qmodal.exception import ConnectionError
from qmodal.store.entries import Claimed
from qmodal_workers.container.intake.prefetch import PrefetchBuffer
from qmodal_workers.container.run.slot import Slot

ENTRIES = [Claimed(1, f"5-{n}", ()) for n in range(4)]


class Source:
    """Answers claims, and takes back what is released; either may fail."""

    def __init__(self) -> None:
        self.answer = ENTRIES[2:]
        self.asked: list[int] = []
        self.released: list[Claimed] = []
        self.is_gone = False
        self.buffer = PrefetchBuffer(
            Slot(), fetch=self.fetch, release=self.release, clock=lambda: 1
        )

    def fetch(self) -> list[Claimed]:
        if self.is_gone:
            raise ConnectionError("gone")
        return list(self.answer)

    def release(self, entries: list[Claimed]) -> None:
        if self.is_gone:
            raise ConnectionError("gone")
        self.released += entries

    def plan(self, *, count: int = 2) -> PrefetchBuffer:
        """A buffer of two entries and a plan."""
        self.buffer.put(ENTRIES[:2])
        self.buffer.plan(count, is_background=True)
        return self.buffer


@pytest.fixture
def source() -> Source:
    return Source()


def test_a_prefetch_goes_from_stage_to_stage(source: Source) -> None:
    buffer = source.buffer
    stages = [buffer.stage]
    source.plan(count=2)
    stages.append(buffer.stage)
    assert buffer.ask(source.asked.append)
    stages.append(buffer.stage)
    assert buffer.read() == ENTRIES[2:]
    stages.append(buffer.stage)
    assert buffer.take() == ENTRIES[2:]
    assert [*stages, buffer.stage] == ["empty", "planned", "asked", "read", "empty"]
    assert source.asked == [2]
    assert buffer.waiting() == ENTRIES[:2]


def test_it_is_for_the_release_thread_until_it_is_read(source: Source) -> None:
    buffer = source.plan()
    seen = [buffer.is_for_background]
    buffer.ask(source.asked.append)
    seen.append(buffer.is_for_background)
    buffer.read()
    seen.append(buffer.is_for_background)
    assert seen == [True, True, False]
    assert buffer.has_more


def test_nothing_is_asked_for_without_a_plan(source: Source) -> None:
    assert not source.buffer.ask(source.asked.append)
    assert source.buffer.take() is None
    assert source.asked == []


def test_there_is_one_prefetch_at_a_time(source: Source) -> None:
    buffer = source.plan(count=2)
    buffer.plan(9, is_background=False)
    buffer.ask(source.asked.append)
    buffer.plan(9, is_background=False)
    assert (source.asked, buffer.stage) == ([2], "asked")


def test_a_plan_is_called_off_when_everything_is_given_back(source: Source) -> None:
    buffer = source.plan()
    buffer.release_all()
    assert (buffer.stage, source.released) == ("empty", ENTRIES[:2])
    assert not buffer.ask(source.asked.append)


def test_what_was_asked_for_is_read_and_given_back(source: Source) -> None:
    buffer = source.plan()
    buffer.ask(source.asked.append)
    buffer.release_all()
    assert source.released == ENTRIES
    assert not buffer.has_more
    assert buffer.take() == []


def test_what_cannot_be_given_back_stays(source: Source) -> None:
    buffer = source.plan()
    buffer.ask(source.asked.append)
    buffer.read()
    source.is_gone = True
    with pytest.raises(ConnectionError):
        buffer.release_all()
    assert (buffer.waiting(), buffer.take()) == (ENTRIES[:2], ENTRIES[2:])


def test_an_answer_that_cannot_be_read_is_not_waited_for_again(source: Source) -> None:
    buffer = source.plan()
    buffer.ask(source.asked.append)
    source.is_gone = True
    with pytest.raises(ConnectionError):
        buffer.take()
    source.is_gone = False
    assert buffer.take() == []


def test_what_is_held_replaces_everything(source: Source) -> None:
    buffer = source.plan()
    buffer.ask(source.asked.append)
    buffer.refill(lambda: ENTRIES[3:])
    assert (buffer.waiting(), buffer.stage) == (ENTRIES[3:], "empty")


@pytest.mark.skipif(not __debug__, reason="an assertion, which this interpreter strips")
def test_whoever_is_called_under_the_lock_may_not_take_the_claim_lock(source: Source) -> None:
    buffer = source.plan()
    buffer.check_order()
    with pytest.raises(AssertionError, match="claim lock"):
        buffer.ask(lambda _: buffer.check_order())
    buffer.check_order()
