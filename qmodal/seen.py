"""Which indexes of a call have arrived: as many numbers as there are gaps, not as many as inputs."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Indexes:
    """A set of integers that fills up nearly in order."""

    __slots__ = ("_bounds", "_count")

    def __init__(self) -> None:
        # Where runs begin and end, in turn: [0, 5, 7, 8] holds 0 to 4, and 7.
        self._bounds: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, index: int) -> bool:
        return bisect_right(self._bounds, index) % 2 == 1

    def missing(self, end: int) -> Iterator[int]:
        """Those from 0 to before `end` that are not in it."""
        edges = [0, *self._bounds, end]
        for begin, until in zip(edges[::2], edges[1::2], strict=False):
            yield from range(begin, min(until, end))

    def add(self, index: int, count: int = 1) -> list[range]:
        """Take in `count` numbers from `index` on; those of them that were not there."""
        bounds, end = self._bounds, index + count
        if bounds and bounds[-1] == index:  # in order, as nearly always
            bounds[-1] = end
            self._count += count
            return [range(index, end)]
        first, last = bisect_left(bounds, index), bisect_right(bounds, end)
        # Bounds between `first` and `last` lie within what is added, or at its edges.
        edges = bounds[first:last]
        begin = index if first % 2 == 0 else None
        fresh = []
        for edge in edges:
            if begin is None:
                begin = edge
            else:
                fresh.append(range(begin, edge))
                begin = None
        if begin is not None:
            fresh.append(range(begin, end))
        bounds[first:last] = [index] * (first % 2 == 0) + [end] * (last % 2 == 0)
        fresh = [each for each in fresh if each]
        self._count += sum(map(len, fresh))
        return fresh
