"""A pack at work: when it stops before all of its inputs have run, and what is left then."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qmodal.store.entries import Claimed
from qmodal.wire.outcome import INLINE_BYTES
from qmodal_workers.container import pack
from qmodal_workers.container.interrupt import SIGNAL, Interrupts
from qmodal_workers.container.invoke import Invoker
from qmodal_workers.container.loop import UserLoop
from qmodal_workers.record import CANCELLED, SERIAL, Record
from tests.envelopes import envelope_of

SIZE = 6
FIELDS = (b"e", b"", b"c", b"fc-00x", b"i", b"0", b"r", b"0", b"l", b"0", b"n", b"%d" % SIZE)


class Running:
    """A pack of a function of one argument, and what runs it."""

    def __init__(self) -> None:
        self.record, loop = Record.create(), UserLoop()
        self.interrupts = Interrupts(self.record, loop)
        self.invoker = Invoker(
            container="ta-a-1",
            plain_only=False,
            timeout=300.0,
            loop=loop,
            interrupts=self.interrupts,
            has_newer_code=lambda: False,
        )
        self.work = pack.Pack(
            Claimed(1, "5-0", FIELDS),
            envelope_of(size=SIZE),
            {},
            [[*range(SIZE)]],
            threading.Lock(),
        )

    def run(self, function: Callable[[int], Any]) -> list[Any]:
        """Run it; the results, in which an outcome stands as its kind."""
        self.interrupts.why = 0
        pack.run(self.work, function, self.invoker, 0, self.record)
        return [getattr(result, "kind", result) for result in self.work.results]


@pytest.fixture
def running() -> Iterator[Running]:
    before = {number: signal.getsignal(number) for number in (SIGNAL, signal.SIGINT)}
    made = Running()
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)
    made.record.close()


def test_all_inputs_run_one_after_another(running: Running) -> None:
    assert running.run(lambda x: 10 * x) == [0, 10, 20, 30, 40, 50]
    assert running.record.words[SERIAL] == SIZE
    assert not running.work.waiting


def test_an_input_that_raises_leaves_the_others_their_arguments(running: Running) -> None:
    assert running.run(lambda x: 12 // (x - 2)) == [-6, -12, "error", 12, 6, 4]


def test_what_is_left_when_one_was_cancelled_waits(running: Running) -> None:
    def cancels(x: int) -> int:
        running.interrupts.why = CANCELLED if x == 1 else 0
        return x

    assert running.run(cancels) == [0, 1]
    assert list(running.work.waiting) == [2, 3, 4, 5]


def test_what_is_left_after_a_tenth_of_a_second_waits(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = [0]

    def takes_long(x: int) -> int:
        passed[0] += pack.LONG_NS // 2
        return x

    monkeypatch.setattr(time, "monotonic_ns", lambda: passed[0])
    assert running.run(takes_long) == [0, 1]
    assert list(running.work.waiting) == [2, 3, 4, 5]


@pytest.mark.parametrize("value", [b"x" * INLINE_BYTES, "x" * INLINE_BYTES])
def test_what_is_left_when_results_are_large_waits(running: Running, value: Any) -> None:
    assert running.run(lambda _: value) == ["value"]
    assert list(running.work.waiting) == [1, 2, 3, 4, 5]


def test_small_results_add_up(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "INLINE_BYTES", 3 * 1000)
    assert running.run(lambda _: "x" * 1000) == ["x" * 1000] * 3


def test_what_was_struck_is_not_started(running: Running) -> None:
    def strikes(x: int) -> int:
        if x == 2:
            running.work.strike()
        return x

    assert running.run(strikes) == [0, 1, 2]
    assert running.work.struck == [3, 4, 5]
