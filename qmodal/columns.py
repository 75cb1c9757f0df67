"""Consecutive inputs of a map, kept argument by argument."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, repeat
from typing import Any, overload

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Columns(Sequence[Arguments]):
    """The inputs as lists of their first, second, ... arguments, with keyword arguments for all.

    A tuple for each input would be one more thing for the garbage collector to look at, again and
    again: with hundreds of thousands of inputs that took a third of a map's time.
    """

    __slots__ = ("columns", "kwargs")

    def __init__(self, columns: list[list[Any]], kwargs: dict[str, Any]) -> None:
        self.columns = columns
        self.kwargs = kwargs

    @classmethod
    def taken(
        cls, iterators: Sequence[Iterator[Any]], kwargs: dict[str, Any], count: int
    ) -> Columns:
        """The next inputs, up to that many; fewer if one of the iterators ends."""
        columns = [[*islice(each, count)] for each in iterators]
        least = min(map(len, columns))
        return cls([each[:least] for each in columns] if least < count else columns, kwargs)

    def __len__(self) -> int:
        return len(self.columns[0])

    def __iter__(self) -> Iterator[Arguments]:
        return zip(zip(*self.columns, strict=True), repeat(self.kwargs))

    @overload
    def __getitem__(self, place: int) -> Arguments: ...
    @overload
    def __getitem__(self, place: slice) -> Columns: ...
    def __getitem__(self, place: int | slice) -> Arguments | Columns:
        if isinstance(place, slice):
            return Columns([each[place] for each in self.columns], self.kwargs)
        return tuple([each[place] for each in self.columns]), self.kwargs
