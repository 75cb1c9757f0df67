"""The map family as people use it: results to iterate, plainly or with `async for`."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, Generic, TypeVar

from qmodal import legacy
from qmodal.call import FunctionCall
from qmodal.client import Client, current
from qmodal.exception import InvalidError
from qmodal.fanout import CHUNK, Failure, Fanout, FindTarget
from qmodal.outputs import BLOCK_MS
from qmodal.store.exchange import Op
from qmodal.target import Arguments, Target
from qmodal.verb import is_in_loop

R = TypeVar("R")
# What a slow input iterator has given so far is sent after this long.
LINGER_SECONDS = 0.01


class Results(Generic[R]):
    """The results of a map: nothing is sent before they are iterated, and that works once."""

    def __init__(
        self,
        find: FindTarget,
        name: str,
        inputs: Iterable[Arguments] | AsyncIterable[Arguments],
        ordered: bool,
        return_exceptions: bool,
    ) -> None:
        self._find = find
        self._name = name
        self._inputs = inputs
        self._ordered = ordered
        self._return_exceptions = return_exceptions
        self._is_used = False

    def __iter__(self) -> Iterator[R]:
        if is_in_loop():
            raise InvalidError(
                f"You can't iter({self._name}.map()) from an async function. "
                f"Use `async for ... in {self._name}.map.aio()` instead."
            )
        self._is_used = True
        if not isinstance(self._inputs, Iterable):
            raise InvalidError("an async iterator needs `async for ... in f.map.aio(...)`")
        return self._iterate(iter(self._inputs))

    def __aiter__(self) -> AsyncIterator[R]:
        self._is_used = True
        return self._aiterate()

    def __del__(self) -> None:
        if not getattr(self, "_is_used", True):
            warnings.warn(
                f"the results of a call to {self._name}.map was not consumed, "
                "so the call will never be executed",
                stacklevel=2,
            )

    def _iterate(self, inputs: Iterator[Arguments]) -> Iterator[R]:
        client = current()
        fanout = self._start(client, client.run(self._find()))
        try:
            while not fanout.is_done:
                if not fanout.is_fed and fanout.room > 0:
                    client.run(_feed(fanout, inputs))
                if fanout.settled < fanout.submitted:
                    client.run(fanout.receive(_patience(fanout)))
                for value in fanout.ready():
                    yield self._given(value)
        finally:
            client.run(fanout.stop())

    async def _aiterate(self) -> AsyncIterator[R]:
        client = current()
        fanout = self._start(client, await client.aio(self._find()))
        inputs = _as_async(self._inputs)
        try:
            while not fanout.is_done:
                if not fanout.is_fed and fanout.room > 0:
                    chunk, is_last = await _chunk_aio(fanout, inputs)
                    await client.aio(fanout.feed(chunk, is_last=is_last))
                if fanout.settled < fanout.submitted:
                    await client.aio(fanout.receive(_patience(fanout)))
                for value in fanout.ready():
                    yield self._given(value)
        finally:
            await client.aio(fanout.stop())

    def _start(self, client: Client, target: Target) -> Fanout[R]:
        return Fanout(
            client,
            target,
            ordered=self._ordered,
            return_exceptions=self._return_exceptions,
            is_delivery=True,
        )

    def _given(self, value: Any) -> R:
        if isinstance(value, Failure):
            if value.is_fatal:
                raise value.error
            value = value.error
        result: R = value
        return result


def _patience(fanout: Fanout[Any]) -> int:
    """How long to wait for results: not at all while more inputs can be sent."""
    return BLOCK_MS if fanout.is_fed or fanout.room <= 0 else 0


def _feed(fanout: Fanout[Any], inputs: Iterator[Arguments]) -> Op[None]:
    chunk: list[Arguments] = []
    began = time.monotonic()
    is_last = False
    while len(chunk) < min(CHUNK, fanout.room) and time.monotonic() - began < LINGER_SECONDS:
        try:
            chunk.append(next(inputs))
        except StopIteration:
            is_last = True
            break
    yield from fanout.feed(chunk, is_last=is_last)


async def _chunk_aio(
    fanout: Fanout[Any], inputs: AsyncIterator[Arguments]
) -> tuple[list[Arguments], bool]:
    chunk: list[Arguments] = []
    began = time.monotonic()
    while len(chunk) < min(CHUNK, fanout.room) and time.monotonic() - began < LINGER_SECONDS:
        try:
            chunk.append(await anext(inputs))
        except StopAsyncIteration:
            return chunk, True
    return chunk, False


async def _as_async(
    inputs: Iterable[Arguments] | AsyncIterable[Arguments],
) -> AsyncIterator[Arguments]:
    if isinstance(inputs, AsyncIterable):
        async for arguments in inputs:
            yield arguments
    else:
        for arguments in inputs:
            yield arguments


def zipped(iterables: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Iterator[Arguments]:
    """One input for each element of the zipped iterables; raises InvalidError if there is none."""
    if not iterables:
        raise InvalidError("map needs at least one iterable of inputs")
    for args in zip(*iterables, strict=False):
        yield args, kwargs or {}


async def zipped_aio(
    iterables: tuple[Any, ...], kwargs: dict[str, Any] | None
) -> AsyncIterator[Arguments]:
    """As `zipped`, for iterables of either kind."""
    if not iterables:
        raise InvalidError("map needs at least one iterable of inputs")
    sources = [_as_async(iterable) for iterable in iterables]
    while True:
        try:
            args = tuple([await anext(source) for source in sources])
        except StopAsyncIteration:
            return
        yield args, kwargs or {}


class Map(Generic[R]):
    """`f.map(...)` and `f.map.aio(...)`."""

    __slots__ = ("_find", "_name")

    def __init__(self, find: FindTarget, name: str) -> None:
        self._find = find
        self._name = name

    def __call__(
        self,
        *input_iterators: Any,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool | None = None,
    ) -> Results[R]:
        """The results, to be iterated once."""
        legacy.note_wrapping(wrap_returned_exceptions)
        inputs = zipped(input_iterators, kwargs)
        return Results(self._find, self._name, inputs, order_outputs, return_exceptions)

    def aio(
        self,
        *input_iterators: Any,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool | None = None,
    ) -> Results[R]:
        """The results, to be iterated with `async for`; also over async iterators."""
        legacy.note_wrapping(wrap_returned_exceptions)
        inputs = zipped_aio(input_iterators, kwargs)
        return Results(self._find, self._name, inputs, order_outputs, return_exceptions)


class SpawnMap:
    """`f.spawn_map(...)`: submit all inputs and return the call that holds them."""

    __slots__ = ("_find", "_name")

    def __init__(self, find: FindTarget, name: str) -> None:
        self._find = find
        self._name = name

    def __call__(
        self, *input_iterators: Iterable[Any], kwargs: dict[str, Any] | None = None
    ) -> FunctionCall[Any]:
        """Submit and return the handle."""
        client = current()
        return client.run(self._submit_all(client, zipped(input_iterators, kwargs)))

    async def aio(
        self, *input_iterators: Iterable[Any], kwargs: dict[str, Any] | None = None
    ) -> FunctionCall[Any]:
        """Submit without blocking the event loop."""
        client = current()
        return await client.aio(self._submit_all(client, zipped(input_iterators, kwargs)))

    def _submit_all(self, client: Client, inputs: Iterator[Arguments]) -> Op[FunctionCall[Any]]:
        target = yield from self._find()
        fanout: Fanout[Any] = Fanout(client, target)
        pending: deque[Arguments] = deque(inputs)
        if not pending:
            raise InvalidError("spawn_map was given no inputs")
        while pending:
            chunk = [pending.popleft() for _ in range(min(CHUNK, len(pending)))]
            yield from fanout.feed(chunk, is_last=not pending)
        return FunctionCall(fanout.call, fanout.submitted)
