"""What interrupts the main thread of a container, and whom that is charged to."""

from __future__ import annotations

import _thread
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from qmodal.exception import InputCancellation
from qmodal_workers.container.run.interrupts import SIGNAL, Interrupts
from qmodal_workers.container.run.user_loop import UserLoop
from qmodal_workers.ipc.shared_record import CANCELLED, STOPPED, AgentCommand, SharedRecord

WAYS: dict[str, Callable[[], object]] = {
    "interrupt_main": _thread.interrupt_main,
    "raise_signal": lambda: signal.raise_signal(signal.SIGINT),
    "kill": lambda: os.kill(os.getpid(), signal.SIGINT),
}


@pytest.fixture
def record() -> Iterator[SharedRecord]:
    made = SharedRecord.create()
    yield made
    made.close()


@pytest.fixture
def interrupts(record: SharedRecord) -> Iterator[Interrupts]:
    before = {number: signal.getsignal(number) for number in (SIGNAL, signal.SIGINT)}
    yield Interrupts(record, UserLoop())
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("way", WAYS)
def test_an_input_that_interrupts_its_own_process_was_not_told_to(
    interrupts: Interrupts, way: str
) -> None:
    interrupts.listen()
    with pytest.raises(KeyboardInterrupt):
        WAYS[way]()
    assert interrupts.is_preempted
    assert not interrupts.was_told_to_stop


def test_an_input_that_its_worker_stops_was_told_to(
    interrupts: Interrupts, record: SharedRecord
) -> None:
    interrupts.slot.serial = 1
    interrupts.listen()
    record.tell(AgentCommand(target=1, why=STOPPED))
    with pytest.raises(InputCancellation):
        signal.raise_signal(SIGNAL)
    assert interrupts.was_told_to_stop


@pytest.mark.parametrize("way", WAYS)
def test_a_hook_that_interrupts_its_own_process_fails(interrupts: Interrupts, way: str) -> None:
    with pytest.raises(KeyboardInterrupt), interrupts.entering():
        WAYS[way]()


def test_a_hook_that_bears_an_interrupt_leaves_nothing_of_it(interrupts: Interrupts) -> None:
    with interrupts.entering(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert not interrupts.is_preempted


def test_our_own_code_is_not_interrupted(interrupts: Interrupts) -> None:
    signal.raise_signal(signal.SIGINT)
    assert interrupts.is_preempted


@pytest.mark.parametrize("is_wanted", [True, False])
def test_after_a_hint_an_input_starts_only_if_it_is_still_ours(
    interrupts: Interrupts, record: SharedRecord, *, is_wanted: bool
) -> None:
    asked: list[bool] = []

    def ask() -> bool:
        asked.append(is_wanted)
        return is_wanted

    interrupts.is_wanted = ask
    interrupts.listen()
    assert not asked
    record.cancelled()
    if is_wanted:
        interrupts.listen()
        assert (interrupts.slot.is_open, interrupts.slot.why) == (True, 0)
    else:
        with pytest.raises(InputCancellation):
            interrupts.listen()
        assert interrupts.slot.why == CANCELLED
    record.heard = record.cancels
    interrupts.listen()
    assert asked == [is_wanted]
