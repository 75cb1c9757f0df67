"""A pack: several inputs of one call that share an entry, and how far they have run."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from qmodal.store.entries import Claimed, Ended, Requeued
from qmodal.wire.envelope import Envelope


class Split(NamedTuple):
    """What becomes of a pack that is taken apart: the input at `place` keeps the entry."""

    place: int
    ended: list[Ended]
    again: list[Requeued]


@dataclass(slots=True)
class Pack:
    """The inputs `begin` to `end` of one entry, by their place in it.

    `waiting` are the places that are not started: the running thread takes them from the left, the
    release thread from the right, and no lock is needed for that.
    `results` holds, from `begin` on, a plain value or an Outcome for each input that has ended.
    `begun` is when the first of these was started, `since` when the last one was or has ended;
    after `until` no other one is started here.
    Times in monotonic nanoseconds, `size` in bytes.
    """

    claimed: Claimed
    envelope: Envelope
    kwargs: dict[str, Any]
    columns: list[list[Any]]  # the first, the second, ... argument of all inputs
    end: int = 0
    begin: int = 0
    begun: int = 0
    since: int = 0
    until: int = 0
    size: int = 0
    waiting: deque[int] = field(default_factory=deque)
    results: list[Any] = field(default_factory=list)
    has_outcomes: bool = False  # among the results
    struck: list[int] = field(default_factory=list)  # places that will not be started here
    split: Split | None = None  # decided, and perhaps carried out, but not confirmed
    is_kept: bool = False  # the entry stands for one input, the rest was split off

    def __post_init__(self) -> None:
        self.end = self.claimed.size
        self.waiting.extend(range(self.end))

    def index_of(self, place: int) -> int:
        """The index in its call of the input at that place."""
        return self.claimed.first + place

    @property
    def done(self) -> int:
        """The place behind the last that has ended."""
        return self.begin + len(self.results)

    @property
    def each(self) -> int:
        """What one input took, on the average.

        Not the slowest one: in a pack of hundreds some input always had to wait for a processor.
        """
        return (self.since - self.begun) // max(1, len(self.results))

    def strike(self) -> None:
        """Take all that is not started away from the thread that runs the pack."""
        with suppress(IndexError):
            while True:
                self.struck.insert(0, self.waiting.pop())

    def unstrike(self) -> None:
        """What was struck may be started after all."""
        self.waiting.extend(self.struck)
        self.struck.clear()

    def confirm(self, split: Split) -> None:
        """The split was carried out: nothing but that one input is ours; its result may be there."""
        place = split.place
        del self.results[: place - self.begin]
        self.begin, self.end, self.is_kept = place, place + 1, True
        if not self.results:
            self.begun = self.since
        self.split = None
