"""InputReader and MapInputs: a map's iterables, plain or asynchronous, zipped or unpacked, for either kind of caller."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice, repeat
from typing import Any, overload

from qmodal.exception import InvalidError
from qmodal.wire.foreign import ForeignError, touch

_AT_HAND = frozenset({list, tuple, range, str, bytes, dict, set, frozenset})
_END = object()


@dataclass(frozen=True, slots=True)
class InputReader:
    """The iterables given to a verb of the map family; `is_star` unpacks the elements of the only one."""

    iterables: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    is_star: bool = False

    @classmethod
    def zipped(
        cls, verb: str, iterables: tuple[Any, ...], kwargs: dict[str, Any] | None
    ) -> InputReader:
        """One input for each element of the zipped iterables; raises InvalidError without any."""
        if not iterables:
            raise InvalidError(f"{verb} needs at least one iterable of inputs")
        return cls(iterables, kwargs or {})

    @property
    def is_at_hand(self) -> bool:
        """Whether the next one can be taken without waiting."""
        return all(type(iterable) in _AT_HAND for iterable in self.iterables)

    @property
    def count(self) -> int:
        """How many there are, of inputs that are at hand; else 0."""
        return min(map(len, self.iterables)) if self.is_at_hand else 0

    @property
    def total(self) -> int | None:
        """How many there will be, as far as the iterables say; None if one does not."""
        if not all(hasattr(type(each), "__len__") for each in self.iterables):
            return None
        try:
            return min(int(touch(len, each)) for each in self.iterables)
        except ForeignError:
            return None

    def plain(self, start: int = 0) -> Iterator[Arguments]:
        """The inputs from that one on, one after another."""
        rows = zip(*map(_as_sync, self.iterables), strict=False)
        arguments = map(tuple, chain.from_iterable(rows)) if self.is_star else rows
        return islice(zip(arguments, repeat(self.kwargs)), start, None)

    def taker(self, start: int) -> Callable[[int], Sequence[Arguments]]:
        """A function that takes the next inputs, so many of them; of those at hand, beginning with that one."""
        if self.is_star:
            plain = self.plain(start)
            return lambda count: [*islice(plain, count)]
        iterators = [islice(_as_sync(each), start, None) for each in self.iterables]
        return partial(MapInputs.taken, iterators, self.kwargs)

    async def aio(self, start: int = 0) -> AsyncIterator[Arguments]:
        """The inputs from that one on, for `async for`."""
        sources = [_as_async(iterable) for iterable in self.iterables]
        while True:
            try:
                args = tuple([await anext(source) for source in sources])
            except StopAsyncIteration:
                return
            if start:
                start -= 1
            else:
                yield self._input(args)

    def _input(self, args: tuple[Any, ...]) -> Arguments:
        return (tuple(args[0]) if self.is_star else args), self.kwargs


def _as_sync(iterable: Any) -> Iterable[Any]:
    if isinstance(iterable, AsyncIterable) and not isinstance(iterable, Iterable):
        return _driven(iterable)
    taken: Iterable[Any] = iterable
    return taken


def _driven(iterable: AsyncIterable[Any]) -> Iterator[Any]:
    """An async iterable in a plain one, with an event loop of its own."""
    import asyncio

    iterator = aiter(iterable)

    async def next_element() -> Any:
        return await anext(iterator, _END)

    with asyncio.Runner() as runner:
        while (element := runner.run(next_element())) is not _END:
            yield element


async def _as_async(iterable: Any) -> AsyncIterator[Any]:
    if isinstance(iterable, AsyncIterable):
        async for element in iterable:
            yield element
    else:
        for element in iterable:
            yield element


Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class MapInputs(Sequence[Arguments]):
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
    ) -> MapInputs:
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
    def __getitem__(self, place: slice) -> MapInputs: ...
    def __getitem__(self, place: int | slice) -> Arguments | MapInputs:
        if isinstance(place, slice):
            return MapInputs([each[place] for each in self.columns], self.kwargs)
        return tuple([each[place] for each in self.columns]), self.kwargs
