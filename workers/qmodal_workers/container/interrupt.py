"""Interrupt the running input, and only that one, when the worker says so.

The worker writes the serial of the input into the shared record and sends SIGUSR2. A signal that
arrives late finds another serial and does nothing; one that arrives while our own code talks to
Redis does nothing either, since an exception there would break the protocol.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from qmodal.exception import InputCancellation, InputTimeout
from qmodal_workers.container.loop import UserLoop
from qmodal_workers.record import TIMEOUT, Record

SIGNAL = signal.SIGUSR2


class Interrupts:
    """The signal's receiver; `serial` is the input whose user code is on the stack, else 0."""

    def __init__(self, record: Record, loop: UserLoop) -> None:
        self._record = record
        self._loop = loop
        self.serial = 0
        self.why = 0
        self.is_preempted = False
        signal.signal(SIGNAL, self._arrive)
        signal.signal(signal.SIGINT, self._preempt)

    @contextmanager
    def listening(self, serial: int) -> Iterator[None]:
        """While user code of that input runs."""
        # User code may have taken the signal over; it would make the next time limit ineffective.
        if signal.getsignal(SIGNAL) != self._arrive:
            signal.signal(SIGNAL, self._arrive)
        self.why = 0
        self.serial = serial
        try:
            told = self._record.told()
            if told.target == serial:
                self._arrive(SIGNAL, None)
            yield
        finally:
            self.serial = 0

    def _preempt(self, _number: int, _frame: FrameType | None) -> None:
        """SIGINT: the container ends, and user code that runs learns of it; our own code goes on."""
        self.is_preempted = True
        if self.serial and not self._loop.cancel():
            raise KeyboardInterrupt

    def _arrive(self, _number: int, _frame: FrameType | None) -> None:
        told = self._record.told()
        if not self.serial or told.target != self.serial or self.why:
            return
        self.why = told.why
        if not self._loop.cancel():
            raise InputTimeout if told.why == TIMEOUT else InputCancellation
