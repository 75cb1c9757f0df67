"""Interrupts of inputs that run side by side: each is told apart by its row, and only that one stops."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable
from types import FrameType

from qmodal.exception import InputCancellation, InputTimeout
from qmodal_workers.container.concurrent.group import Group
from qmodal_workers.container.process import forked_children
from qmodal_workers.container.run.interrupts import SIGNAL, handler_of, leave_signals
from qmodal_workers.container.run.slot import Slot
from qmodal_workers.container.run.user_loop import UserLoop
from qmodal_workers.ipc.shared_record import TIMEOUT, SharedRecord


class GroupInterrupts:
    """What may stop one group, for whoever runs its user code (`Interruptible`)."""

    __slots__ = ("_all", "slot")

    def __init__(self, slot: Slot, all_groups: ConcurrentInterrupts) -> None:
        self.slot = slot
        self._all = all_groups

    @property
    def is_preempted(self) -> bool:
        """Whether all that the container runs was interrupted, by SIGINT."""
        return self._all.is_preempted

    @property
    def is_aimed(self) -> bool:
        """Whether the group was interrupted, or all that this container runs."""
        return self.slot.why != 0 or self._all.is_preempted

    def listen(self) -> None:
        """Its user code runs from here on; raises what has come before that."""
        self.slot.is_open = True
        if self.slot.why:
            raise InputTimeout if self.slot.why == TIMEOUT else InputCancellation
        if self._all.is_preempted:
            raise KeyboardInterrupt

    def listen_on(self) -> None:
        """More user code of it runs: what has interrupted it does not come twice."""
        self.slot.is_open = True


class ConcurrentInterrupts:
    """Receives the worker's signals and hands its orders to the groups that they are for.

    A task is cancelled. User code on the main thread has the exception raised in it, or what it
    awaits in `user_loop` is cancelled. A thread cannot be interrupted: `leave` is called, and the
    container ends without it. `is_preempted`: SIGINT has come, which is for all.
    """

    def __init__(
        self,
        record: SharedRecord,
        groups: Callable[[], Iterable[Group]],
        user_loop: UserLoop,
    ) -> None:
        self._record = record
        self._groups = groups
        self._user_loop = user_loop
        self._leave: Callable[[str], None] = lambda _: None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._receiver, self._interrupted = self._arrive, self._preempt
        self.is_preempted = False

    def arm(self, loop: asyncio.AbstractEventLoop, leave: Callable[[str], None]) -> None:
        """Receive signals from now on; `loop` runs on the main thread, and `leave` is called by it."""
        self._loop, self._leave = loop, leave
        signal.signal(SIGNAL, self._receiver)
        signal.signal(signal.SIGINT, self._interrupted)
        self._user_loop.arm()
        forked_children.watch(self.disarm)

    def disarm(self) -> None:
        """In a process that user code has forked: no signal is about an input there."""
        leave_signals(self._receiver, self._interrupted)
        self._user_loop.disarm()

    def look(self, group: Group) -> None:
        """A group is about to start: take in what was ordered before its signal could find it."""
        # User code may have taken the signal over; it would make time limits ineffective.
        if handler_of(SIGNAL) is not self._receiver:
            signal.signal(SIGNAL, self._receiver)
        for row in group.rows:
            why = self._record.table.order(row)
            if why:
                group.order(row, why)

    def _arrive(self, _number: int, _frame: FrameType | None) -> None:
        """SIGUSR2: the worker has ordered something. Only what runs on the main thread is interrupted here."""
        inline: Group | None = None
        for group in list(self._groups()):
            for row in group.rows:
                why = self._record.table.order(row)
                if why and group.order(row, why):
                    if group.place == "main":
                        inline = group
                    else:
                        self.stop(group)
        if inline is not None and inline.slot.is_open and not self._user_loop.cancel():
            raise InputTimeout if inline.slot.why == TIMEOUT else InputCancellation

    def stop(self, group: Group) -> None:
        """End its user code; what has not begun sees by itself that it is not to.

        A signal's handler must not touch the loop, which may be in the middle of anything.
        """
        loop, task = self._loop, group.slot.task
        if loop is None:
            return
        if task is not None:
            loop.call_soon_threadsafe(task.cancel)
        elif group.is_beyond_reach:
            loop.call_soon_threadsafe(self._leave, "an input that ran in a thread was to stop")

    def _preempt(self, _number: int, _frame: FrameType | None) -> None:
        """SIGINT: the container ends, and what runs learns of it as far as that can be told anything."""
        self.is_preempted = True
        inline = False
        for group in list(self._groups()):
            if group.place == "main":
                inline = inline or group.slot.is_open
            else:
                self.stop(group)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._leave, "preempted")
        if inline and not self._user_loop.cancel():
            raise KeyboardInterrupt
