"""ReorderBuffer: results of a map that have arrived and wait for their turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Failure:
    """An input's exception on its way to its place among the results; a fatal one ends the map."""

    error: BaseException
    is_fatal: bool


class ReorderBuffer:
    """Runs of consecutive results by the index of their first; a pack arrives, waits and leaves as one.

    Put and taken by one thread; `waiting`, the number of results inside, may be read by another.
    """

    __slots__ = ("_has_failures", "_is_ordered", "_next", "_runs", "fatal", "waiting")

    def __init__(self, *, is_ordered: bool) -> None:
        self._is_ordered = is_ordered
        self._runs: dict[int, list[Any]] = {}
        self.fatal: BaseException | None = None  # the first fatal failure that came
        self._has_failures = False
        self._next = 0
        self.waiting = 0

    def put(self, index: int, values: list[Any]) -> None:
        """Results of consecutive inputs; the list is ours from now on."""
        self._runs[index] = values
        self.waiting += len(values)

    def fail(self, index: int, failure: Failure) -> None:
        """An exception instead of a result."""
        if failure.is_fatal and self.fatal is None:
            self.fatal = failure.error
        self._has_failures = True
        self.put(index, [failure])

    @property
    def is_ready(self) -> bool:
        """Whether `take` has results, or `fatal` an exception."""
        if self._is_ordered and self.fatal is None:
            return self._next in self._runs
        return bool(self._runs)

    def take(self) -> list[Any]:
        """Results whose turn it is, none twice; not to be asked for once there is a `fatal`."""
        taken = self._in_order() if self._is_ordered else self._all()
        self.waiting -= len(taken)
        if self._has_failures:
            return [each.error if isinstance(each, Failure) else each for each in taken]
        return taken

    def _in_order(self) -> list[Any]:
        runs, index = self._runs, self._next
        taken = runs.pop(index, None)
        if taken is None:
            return []
        index += len(taken)
        while (run := runs.pop(index, None)) is not None:
            taken += run
            index += len(run)
        self._next = index
        return taken

    def _all(self) -> list[Any]:
        taken = [value for run in self._runs.values() for value in run]
        self._runs.clear()
        return taken
