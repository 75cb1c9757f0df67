"""A pack at work: when it stops before all of its inputs have run, and what is left then."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from qmodal.client import context
from qmodal.store.entries import Claimed
from qmodal.wire.outcome import INLINE_BYTES
from qmodal.wire.payload import load_value
from qmodal_workers.container.run import pack_runner
from qmodal_workers.container.run.interrupts import SIGNAL, Interrupts
from qmodal_workers.container.run.invoker import Invoker
from qmodal_workers.container.run.pack import Pack
from qmodal_workers.container.run.user_loop import UserLoop
from qmodal_workers.ipc.shared_record import CANCELLED, TIMEOUT, AgentCommand, SharedRecord
from tests.programs import hostile
from tests.support.store.envelopes import envelope_of

SIZE = 6
FIELDS = (b"e", b"", b"c", b"fc-00x", b"i", b"0", b"r", b"0", b"l", b"0", b"n", b"%d" % SIZE)


class Running:
    """A pack of a function of one argument, and what runs it."""

    def __init__(self) -> None:
        self.record, loop = SharedRecord.create(), UserLoop()
        self.interrupts = Interrupts(self.record, loop)
        self.invoker = Invoker(
            container="ta-a-1",
            function="f",
            most=1,
            plain_only=False,
            timeout=300.0,
            loop=loop,
            interrupts=self.interrupts,
            has_newer_code=lambda: False,
        )
        self.work = Pack(
            Claimed(1, "5-0", FIELDS),
            envelope_of(size=SIZE),
            {},
            [[*range(SIZE)]],
        )

    def run(self, function: Callable[..., Any]) -> list[Any]:
        """Run it; the results, in which an outcome stands as its kind."""
        self.interrupts.slot.why = 0
        pack_runner.run(self.work, function, self.invoker, self.interrupts, self.record)
        return [getattr(result, "kind", result) for result in self.work.results]


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    # How long a pack runs before it is taken apart is not what is looked at here, however busy the machine is.
    monkeypatch.setattr(pack_runner, "LONG_NS", 30_000_000_000)
    before = {number: signal.getsignal(number) for number in (SIGNAL, signal.SIGINT)}
    made = Running()
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)
    made.record.close()


def test_all_inputs_run_one_after_another(running: Running) -> None:
    assert running.run(lambda x: 10 * x) == [0, 10, 20, 30, 40, 50]
    assert running.record.container.serial == SIZE
    assert not running.work.waiting


def test_an_input_that_raises_leaves_the_others_their_arguments(running: Running) -> None:
    assert running.run(lambda x: 12 // (x - 2)) == [-6, -12, "error", 12, 6, 4]


def test_each_input_has_keyword_arguments_of_its_own(running: Running) -> None:
    def adds(x: int, found: list[int], by: int) -> int:
        found.append(x + by)
        return sum(found)

    running.work.kwargs = {"found": [], "by": 1}
    assert running.run(adds) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt", "CancelledError"])
def test_what_an_input_raises_while_it_is_looked_at_fails_that_one(
    running: Running, kind: str
) -> None:
    ways = [hostile.raises_hostile, hostile.returns_unpicklable, hostile.raises_unrebuildable]

    def fails(x: int) -> Any:
        return ways[x % 3](kind) if x < 5 else x

    assert running.run(fails) == [*["error"] * 5, 5]


def test_an_input_that_describes_itself_for_ever_is_interrupted(running: Running) -> None:
    class HangingError(Exception):
        def __str__(self) -> str:
            running.record.tell(AgentCommand(target=half.serial, why=TIMEOUT))
            signal.raise_signal(SIGNAL)
            raise AssertionError("it goes on")

    def fails(x: int) -> int:
        if x == 1:
            raise HangingError
        return x

    half = running.record.container
    assert running.run(fails) == [0, "timeout", 2, 3, 4, 5]


def test_what_is_left_when_one_was_cancelled_waits(running: Running) -> None:
    def cancels(x: int) -> int:
        running.interrupts.slot.why = CANCELLED if x == 1 else 0
        return x

    assert running.run(cancels) == [0, 1]
    assert list(running.work.waiting) == [2, 3, 4, 5]


def test_what_is_left_after_a_tenth_of_a_second_waits(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = [0]

    def takes_long(x: int) -> int:
        passed[0] += pack_runner.LONG_NS // 2
        return x

    monkeypatch.setattr(time, "monotonic_ns", lambda: passed[0])
    assert running.run(takes_long) == [0, 1]
    assert list(running.work.waiting) == [2, 3, 4, 5]


@pytest.mark.parametrize("value", [b"x" * INLINE_BYTES, "x" * INLINE_BYTES])
def test_what_is_left_when_results_are_large_waits(running: Running, value: Any) -> None:
    assert running.run(lambda _: value) == ["value"]
    assert list(running.work.waiting) == [1, 2, 3, 4, 5]


def test_small_results_add_up(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_runner, "INLINE_BYTES", 3 * 1000)
    assert running.run(lambda _: "x" * 1000) == ["x" * 1000] * 3


def test_what_was_struck_is_not_started(running: Running) -> None:
    def strikes(x: int) -> int:
        if x == 2:
            running.work.strike()
        return x

    assert running.run(strikes) == [0, 1, 2]
    assert running.work.struck == [3, 4, 5]


def test_no_input_sees_what_another_has_set(running: Running) -> None:
    old, new = ContextVar("old", default=-1), ContextVar("new", default=-1)
    third = ContextVar("third", default=-1)

    def sets(x: int) -> list[int]:
        found = [each.get() for each in (old, new, third)]
        for each in ((), (old,), (new,), (old, new), (third,), ())[x]:
            each.set(x)
        if x == 3:
            raise ValueError(x)
        return found

    def run() -> list[Any]:
        old.set(7)
        third.set(8)
        return [load_value(each.format, each.payload, plain_only=False) for each in outcomes()]

    def outcomes() -> list[Any]:
        running.run(sets)
        return [each for each in running.work.results if each.kind == "value"]

    assert copy_context().run(run) == [[7, -1, 8]] * 5


def test_an_input_knows_itself_whatever_was_set_before(running: Running) -> None:
    variable = ContextVar("variable", default=-1)
    seen = []

    def sets(x: int) -> None:
        seen.append(context._input.get())
        variable.set(x)

    running.run(sets)
    assert [each and each[1] for each in seen] == [*range(SIZE)]
    assert variable.get() == -1
