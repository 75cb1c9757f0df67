"""A group: the inputs that one call of user code is for, one as a rule, or those of a batch."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from qmodal_workers.container.run.attempt import Attempt
from qmodal_workers.container.run.slot import Slot
from qmodal_workers.ipc.shared_record import CANCELLED


@dataclass(slots=True, eq=False)
class Group:
    """One or more attempts that start and end together, in a slot of their own.

    `rows` are theirs in the table of what runs. `is_inline`: it runs on the main thread, where a
    signal's handler may raise in it. `task` is the one that takes the group through its life; `is_over`: something was
    made of it, and what becomes of its user code now is of no interest.
    """

    attempts: list[Attempt]
    rows: list[int]
    slot: Slot = field(default_factory=Slot)
    is_inline: bool = False
    is_over: bool = False
    task: asyncio.Task[Any] | None = None
    cancelled: set[int] = field(default_factory=set)  # rows whose inputs were cancelled

    @property
    def first(self) -> Attempt:
        """The attempt whose id user code sees."""
        return self.attempts[0]

    def order(self, row: int, why: int) -> bool:
        """The input of that row is to stop; whether the whole group is, and was not told so before.

        A batch goes on for the others when one of its inputs is cancelled: nobody reads that result.
        """
        if self.slot.why:
            return False
        if why == CANCELLED:
            return self.cancel(row)
        self.slot.why = why
        return True

    def cancel(self, row: int) -> bool:
        """The input of that row was cancelled; whether none of the group is wanted any more."""
        self.cancelled.add(row)
        if len(self.cancelled) < len(self.rows):
            return False
        self.slot.why = CANCELLED
        return True
