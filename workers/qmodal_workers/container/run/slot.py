"""The slot of a container: the entry that it runs, and the state of the input that runs."""

from __future__ import annotations

import asyncio
from typing import Any

from qmodal.store.entries import Claimed
from qmodal_workers.container.run.pack import Pack


class Slot:
    """The entry that a container runs, since when, and whether it may be interrupted.

    Written by the thread that runs inputs and by signal handlers, which run in that thread; other
    threads only read it. All that deal with the running input share one slot, and copy nothing of it.

    `claimed`: the entry that runs, None between two; `pack`: its Pack, if it is one. `started`, `ended`:
    when the last entry was started and has ended, in monotonic nanoseconds. `serial`: number of the
    input that was started last, from 1 on. `part`: index in its call of the input that ran last, if that
    was one of a pack.
    `is_open`: user code of the input is on the stack, so an interrupt may be raised in it.
    `why`: code of the interrupt (TIMEOUT, CANCELLED, STOPPED of the shared record), 0 if there was none.
    `task`: the task of the event loop that awaits what user code has returned.
    """

    __slots__ = (
        "claimed",
        "ended",
        "is_open",
        "pack",
        "part",
        "serial",
        "started",
        "task",
        "why",
    )

    def __init__(self) -> None:
        self.claimed: Claimed | None = None
        self.pack: Pack | None = None
        self.started = 0
        self.ended = 0
        self.serial = 0
        self.part = 0
        self.is_open = False
        self.why = 0
        self.task: asyncio.Task[Any] | None = None

    def finish(self, now: int) -> float:
        """Empty the slot at the end of its entry; returns how many seconds that ran."""
        self.claimed = None
        self.ended = now
        return (now - self.started) / 1e9
