"""Which indexes of a call have arrived: as many numbers as there are gaps, not as many as inputs."""

from __future__ import annotations

from bisect import bisect_right
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

    def add(self, index: int, count: int = 1) -> bool:
        """Take in `count` numbers from `index` on, of which all or none are there; False if all."""
        bounds = self._bounds
        place = bisect_right(bounds, index)
        if place % 2:
            return False
        self._count += count
        joins_before = place > 0 and bounds[place - 1] == index
        joins_behind = place < len(bounds) and bounds[place] == index + count
        if joins_before and joins_behind:
            del bounds[place - 1 : place + 1]
        elif joins_before:
            bounds[place - 1] = index + count
        elif joins_behind:
            bounds[place] = index
        else:
            bounds[place:place] = (index, index + count)
        return True
