"""A group: the inputs that one call of user code is for, one as a rule, or those of a batch."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Literal

from qmodal_workers.container.run.attempt import Attempt
from qmodal_workers.container.run.slot import Slot
from qmodal_workers.ipc.shared_record import CANCELLED

# Where user code of a group runs, or will: in its task, in a thread of its own, or on the main thread
# outside the loop, where a signal's handler may raise in it.
Place = Literal["task", "thread", "main"]


@dataclass(slots=True, eq=False)
class Group:
    """One or more attempts that start and end together, in a slot of their own.

    `rows` are theirs in the table of what runs. `task` is the one that takes the group through its
    life, and `has_begun` says whether it has had its first step; `slot.task` is the same while that
    runs user code. `is_over`: something was made of it, and
    what becomes of its user code now is of no interest.
    """

    attempts: list[Attempt]
    rows: list[int]
    slot: Slot = field(default_factory=Slot)
    place: Place = "task"
    is_over: bool = False
    has_begun: bool = False
    task: asyncio.Task[Any] | None = None
    cancelled: set[int] = field(default_factory=set)  # rows whose inputs were cancelled

    @property
    def first(self) -> Attempt:
        """The attempt whose id user code sees: the first of those that are wanted."""
        if not self.cancelled:
            return self.attempts[0]
        pairs = zip(self.rows, self.attempts, strict=True)
        return next((each for row, each in pairs if row not in self.cancelled), self.attempts[0])

    @property
    def owner(self) -> tuple[str, int]:
        """The call and the index that what it prints is of: "" of several calls, -1 of several inputs."""
        envelopes = [each.envelope for each in self.attempts]
        call, index = envelopes[0].head.call, envelopes[0].first
        is_one_call = all(each.head.call == call for each in envelopes)
        return call if is_one_call else "", index if len(envelopes) == 1 else -1

    @property
    def is_beyond_reach(self) -> bool:
        """Whether its user code runs in a thread, where nothing can be raised in it.

        Its thread opens the slot before it looks whether it is to stop, and who stops it does the
        same the other way round, so that one of the two sees the other.
        """
        return self.place == "thread" and self.slot.is_open

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
