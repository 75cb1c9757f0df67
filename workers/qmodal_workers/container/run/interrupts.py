"""Interrupt the running input, and only that one, when the worker says so.

The worker writes the serial of the input into the shared record and sends SIGUSR2. A signal that
arrives late finds another serial and does nothing; one that arrives while our own code talks to
Redis does nothing either, since an exception there would break the protocol.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import Protocol

from qmodal.exception import InputCancellation, InputTimeout
from qmodal_workers.container.run.slot import Slot
from qmodal_workers.container.run.user_loop import UserLoop
from qmodal_workers.ipc.shared_record import (
    CANCELLED,
    STOPPED,
    TIMEOUT,
    SharedRecord,
)

SIGNAL = signal.SIGUSR2
# The one in `signal` first tries to find an enumeration for our handler, by way of an exception.
handler_of = import_module("_signal").getsignal


def leave_signals(receiver: object, interrupted: object) -> None:
    """The handlers of both signals are the usual ones again, unless they are somebody else's by now."""
    for number, ours, usual in (
        (SIGNAL, receiver, signal.SIG_DFL),
        (signal.SIGINT, interrupted, signal.default_int_handler),
    ):
        if handler_of(number) is ours:
            signal.signal(number, usual)


class Interruptible(Protocol):
    """What stops an input from outside, as whoever runs its user code sees it: `slot` is where it runs."""

    @property
    def slot(self) -> Slot:
        """The slot of the input."""

    @property
    def is_preempted(self) -> bool:
        """Whether all that the container runs was interrupted, by SIGINT."""

    @property
    def is_aimed(self) -> bool:
        """Whether the input was interrupted, or all that this container runs."""

    def listen(self) -> None:
        """Its user code runs from here on; raises what has come before that."""

    def listen_on(self) -> None:
        """More user code of it runs: what has interrupted it does not come twice."""


class Interrupts:
    """Receives the signals, and raises in the user code of the input in `slot` while that is open.

    `is_wanted` asks the server whether the input that is about to start was not cancelled.
    """

    __slots__ = (
        "_cancels",
        "_interrupted",
        "_is_entering",
        "_loop",
        "_news",
        "_receiver",
        "_record",
        "_target",
        "heard",
        "is_preempted",
        "is_wanted",
        "slot",
    )

    def __init__(self, record: SharedRecord, loop: UserLoop) -> None:
        self._record = record
        self._cancels, self._target = record.cancels_cell, record.target_cell
        self._news, self.heard = record.news_cell, -1
        self._loop = loop
        self.slot = loop.slot
        self.is_preempted = False
        self.is_wanted: Callable[[], bool] = lambda: True
        self._is_entering = False
        self._receiver = self._arrive
        signal.signal(SIGNAL, self._receiver)
        self._interrupted = self._preempt
        signal.signal(signal.SIGINT, self._interrupted)

    def disarm(self) -> None:
        """In a process that user code has forked: no signal is about an input there."""
        leave_signals(self._receiver, self._interrupted)
        self._loop.disarm()

    def listen(self) -> None:
        """Open the slot: its user code runs from here on until `is_open` is False; may interrupt it."""
        slot = self.slot
        # User code may have taken the signal over; it would make the next time limit ineffective.
        if handler_of(SIGNAL) is not self._receiver:
            signal.signal(SIGNAL, self._receiver)
        slot.why = 0
        # Its worker first writes that it has heard of a cancelled input, then looks which one runs;
        # here it is the other way round, so that one of the two sees the other.
        if self._cancels.value != self._record.heard and not self.is_wanted():
            slot.why = CANCELLED
            raise InputCancellation
        slot.is_open = True
        if self._target.value == slot.serial:
            self._arrive(SIGNAL, None)

    def expect_news(self) -> None:
        """The next input takes a look, whatever it finds (`heard` is what it has heard of): a pack begins."""
        self.slot.why, self.heard = 0, -1

    def hear(self) -> int:
        """The worker has written something since an input took a look: `listen`; what was heard now.

        With the slot open, so that of what is written meanwhile either the signal or this is in time.
        """
        self.slot.is_open = False
        self.heard = self._news.value
        self.listen()
        return self.heard

    def may_go_on(self) -> bool:
        """Whether the next input of a pack may start: a cancel is the whole call's."""
        was_cancelled = self.slot.why == CANCELLED
        self.slot.why = 0
        return not was_cancelled

    def listen_on(self) -> None:
        """As `listen`, for more user code of the same input: what has interrupted it does not come twice."""
        slot = self.slot
        slot.is_open = True
        if self._target.value == slot.serial:
            self._arrive(SIGNAL, None)

    @property
    def is_aimed(self) -> bool:
        """Whether the input was interrupted, or all that this container runs."""
        return self.slot.why != 0 or self.is_preempted

    @property
    def was_told_to_stop(self) -> bool:
        """Whether the worker has interrupted the input, so that it has no part in that.

        SIGINT tells nothing of the kind: user code sends it to its own process, too.
        """
        return self.slot.why == STOPPED

    @contextmanager
    def entering(self) -> Iterator[None]:
        """User code that is no input's runs: SIGINT raises KeyboardInterrupt in it, and no more.

        Kept for later it would end the container before its first input, and the next one as well.
        """
        self._is_entering = True
        try:
            yield
        finally:
            self._is_entering = self.is_preempted = False

    def _preempt(self, _number: int, _frame: FrameType | None) -> None:
        """SIGINT: the container ends, and user code that runs learns of it; our own code goes on."""
        self.is_preempted = True
        if (self.slot.is_open or self._is_entering) and not self._loop.cancel():
            raise KeyboardInterrupt

    def _arrive(self, _number: int, _frame: FrameType | None) -> None:
        slot, told = self.slot, self._record.told()
        # Target 0 is nobody, and before the first input that is its serial, too.
        if not (slot.is_open and told.target) or told.target != slot.serial or slot.why:
            return
        slot.why = told.why
        if not self._loop.cancel():
            raise InputTimeout if told.why == TIMEOUT else InputCancellation
