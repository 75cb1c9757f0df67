"""A pack: several inputs of one call that share an entry, and how far they have run."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from qmodal.store.entries import Claimed, Ended, Requeued
from qmodal.wire.envelope import Envelope
from qmodal.wire.outcome import Outcome, Result


class Split(NamedTuple):
    """The split of a pack: the input at `place` keeps the entry, `ended` are settled, `again` wait again."""

    place: int
    ended: list[Ended]
    again: list[Requeued]


@dataclass(slots=True)
class Pack:
    """The inputs at the places `begin` to `end` of one entry, and how far they have run.

    `waiting` are the places that are not started: the running thread takes them from the left, the
    release thread from the right, and no lock is needed for that.
    `results` holds, from `begin` on, a plain value or an Outcome for each input that has ended.
    `begun` is when the first of these was started, `since` when the last one has ended and the next
    one was started; after `until` no other one is started here.
    Times in monotonic nanoseconds, `size` (of the results) in bytes.
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
    split: Split | None = None  # decided and perhaps carried out, but not confirmed
    is_kept: bool = False  # the entry stands for one input, the rest was split off

    def __post_init__(self) -> None:
        self.end = self.claimed.size
        self.waiting.extend(range(self.end))

    def index_of(self, place: int) -> int:
        """The index in its call of the input at that place."""
        return self.claimed.first + place

    @property
    def done(self) -> int:
        """The place after the last input that has ended."""
        return self.begin + len(self.results)

    @property
    def mean_ns(self) -> int:
        """The mean time that an input took, in nanoseconds.

        Not the longest: in a pack of hundreds some input always had to wait for a processor.
        """
        return (self.since - self.begun) // max(1, len(self.results))

    @property
    def failures(self) -> Iterator[Result]:
        """The results that are no values."""
        if self.has_outcomes:
            for each in self.results:
                if isinstance(each, Outcome) and each.kind != "value":
                    yield each.kind, each.format, each.payload

    def strike(self) -> None:
        """Withhold all unstarted inputs from the thread that runs the pack."""
        with suppress(IndexError):
            while True:
                self.struck.insert(0, self.waiting.pop())

    def unstrike(self) -> None:
        """Let the struck inputs be started after all."""
        self.waiting.extend(self.struck)
        self.struck.clear()

    def confirm(self, split: Split) -> None:
        """Take in that the split was carried out: the pack is one input now, perhaps with its result."""
        place = split.place
        del self.results[: place - self.begin]
        self.begin, self.end, self.is_kept = place, place + 1, True
        if not self.results:
            self.begun = self.since
        self.split = None
