"""What interrupts the main thread of a container, and whom that is charged to."""

from __future__ import annotations

import _thread
import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from qmodal.exception import InputCancellation
from qmodal_workers.container.intake.release_thread import ReleaseThread
from qmodal_workers.container.process.signals import unsignalled
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
def loop() -> Iterator[UserLoop]:
    made = UserLoop()
    yield made
    made.close()


@pytest.fixture
def interrupts(record: SharedRecord, loop: UserLoop) -> Iterator[Interrupts]:
    before = {number: signal.getsignal(number) for number in (SIGNAL, signal.SIGINT)}
    yield Interrupts(record, loop)
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


def raise_while_the_loop_waits(number: int) -> None:
    """Have another thread be given that signal, while the main thread waits in its loop."""
    main = threading.main_thread().ident or 0

    def raise_it() -> None:
        while sys._current_frames()[main].f_code.co_name != "select":
            pass
        signal.raise_signal(number)

    threading.Thread(target=raise_it).start()


@pytest.mark.parametrize("number", [SIGNAL, signal.SIGINT])
def test_what_is_awaited_is_interrupted_whichever_thread_is_given_the_signal(
    interrupts: Interrupts, loop: UserLoop, record: SharedRecord, number: int
) -> None:
    late: list[bool] = []

    async def wait() -> None:
        # What else wakes the loop has the handler run, too.
        asyncio.get_running_loop().call_later(20, late.append, True)
        raise_while_the_loop_waits(number)
        await asyncio.Event().wait()

    interrupts.slot.serial = 1
    interrupts.listen()
    record.tell(AgentCommand(target=1, why=STOPPED))
    with pytest.raises(asyncio.CancelledError):
        loop.finish(wait())
    assert not late


def test_a_loop_that_is_closed_is_not_woken_any_more(loop: UserLoop) -> None:
    loop.get_loop()
    loop.close()
    assert signal.set_wakeup_fd(-1) == -1


def test_a_forked_child_wakes_no_loop_of_its_parent(interrupts: Interrupts, loop: UserLoop) -> None:
    loop.get_loop()
    interrupts.disarm()
    assert signal.set_wakeup_fd(-1) == -1


def test_a_descriptor_that_user_code_has_set_for_wake_ups_stays(loop: UserLoop) -> None:
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    loop.get_loop()
    signal.set_wakeup_fd(writable)
    loop.arm()
    loop.disarm()
    assert signal.set_wakeup_fd(-1) == writable
    loop.arm()
    assert signal.set_wakeup_fd(-1) not in (-1, writable)
    for end in (readable, writable):
        os.close(end)


def blocked() -> set[int]:
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def test_a_thread_of_ours_is_given_no_signals_but_those_that_it_causes() -> None:
    before, found = blocked(), set[int]()
    thread = threading.Thread(target=lambda: found.update(blocked()))
    with unsignalled():
        thread.start()
    thread.join()
    assert {signal.SIGINT, SIGNAL, signal.SIGTERM} <= found
    assert signal.SIGSEGV not in found
    assert blocked() == before


def test_the_release_thread_is_given_no_signals() -> None:
    found: set[int] = set()
    looked = threading.Event()

    def look(_: int) -> bool:
        found.update(blocked())
        looked.set()
        return False

    ReleaseThread(look, lambda _: 1.0, clock=lambda: 0, tick=lambda _: None).arm()
    assert looked.wait(10)
    assert signal.SIGINT in found
