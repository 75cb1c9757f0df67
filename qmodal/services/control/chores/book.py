"""The book of chores: what is done how often, and which of it is due; pure, with the clock as an argument."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from qmodal.store.history.chores import ChoreRecord


@dataclass(frozen=True, slots=True)
class Chore:
    """A chore: every so many seconds, and what it is good for."""

    name: str
    every: int
    purpose: str


BOOK = {
    each.name: each
    for each in (
        Chore("results", 600, "gives a lifetime to what calls have left that are gone"),
        Chore("orphans", 600, "removes what belongs to apps and boxes that are gone"),
        Chore("dead-letters", 600, "removes dead letters after 30 days"),
        Chore("active-set", 60, "mends the lists of active pools"),
        Chore("code", 3600, "forgets old versions of apps, and source bundles that nobody needs"),
        Chore("statistics", 300, "adds the statistics of functions up by the hour"),
    )
}


class ChoreBook:
    """Which chores are due: one for each full interval of the server's clock."""

    def __init__(self) -> None:
        self._done: Mapping[str, ChoreRecord] = {}
        self._sent: dict[str, int] = {}

    def take(self, done: Mapping[str, ChoreRecord]) -> None:
        """These were done last."""
        self._done = done

    def due(self, now: int) -> Iterator[tuple[str, int]]:
        """Names of chores and the intervals that they are due in (ms); each once."""
        for chore in BOOK.values():
            interval = chore.every * 1000
            slot = now // interval * interval
            done = self._done.get(chore.name)
            if self._sent.get(chore.name) != slot and (done is None or done.slot != slot):
                self._sent[chore.name] = slot
                yield chore.name, slot
