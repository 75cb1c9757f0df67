"""The map family as people use it: results to iterate, plainly or with `async for`."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any, Generic, TypeVar

from qmodal.client import deprecation as legacy
from qmodal.client.client import Client, current_for
from qmodal.client.verb import is_in_loop
from qmodal.exception import InvalidError
from qmodal.functions.map.inputs import InputReader
from qmodal.functions.map.map_call import MapCall, MapOptions
from qmodal.functions.results import in_task
from qmodal.functions.target import FindTarget
from qmodal.transport.operation import Op

R = TypeVar("R")
log = logging.getLogger("qmodal")


class Results(Generic[R]):
    """The results of a map: nothing is sent before they are iterated, and that works once."""

    def __init__(self, find: FindTarget, verb: str, inputs: InputReader, how: MapOptions) -> None:
        self._find = find
        self._verb = verb
        self._inputs = inputs
        self._how = how
        self._is_used = False
        self._running: AsyncIterator[R] | None = None

    def __iter__(self) -> Iterator[R]:
        if is_in_loop():
            raise InvalidError(
                f"You can't iter(Function.{self._verb}()) from an async function. "
                f"Use async for ... in Function.{self._verb}.aio() instead."
            )
        if self._is_used:
            return iter(())
        self._is_used = True
        return _iterate(self._find, self._inputs, self._how)

    def __aiter__(self) -> AsyncIterator[R]:
        self._is_used = True
        if self._running is None:
            self._running = _aiterate(self._find, self._inputs, self._how)
        return self._running

    async def __anext__(self) -> R:
        return await anext(aiter(self))

    async def aclose(self) -> None:
        """Nobody wants the rest."""
        running: Any = aiter(self)
        await running.aclose()

    def __del__(self) -> None:
        if not getattr(self, "_is_used", True):
            log.warning(
                "the results of a call to Function.%s was not consumed, "
                "so the call will never be executed.",
                self._verb,
            )


def _iterate(find: FindTarget, inputs: InputReader, how: MapOptions) -> Iterator[Any]:
    # No method: results that are dropped end their map at once, without waiting for a cycle to be found.
    from qmodal.functions.map.feeder import feeding
    from qmodal.output.progress import shown

    client = current_for(find)
    fanout: MapCall[Any] = client.run(start(client, find, how))
    feeder = feeding(client, fanout, inputs)
    try:
        with shown(client, fanout):
            while not fanout.is_done:
                feeder.step()
                yield from fanout.arrivals.take()
    finally:
        try:
            feeder.stop()
        finally:  # whoever is interrupted there, too
            client.run(fanout.stop())


async def _aiterate(find: FindTarget, inputs: InputReader, how: MapOptions) -> AsyncIterator[Any]:
    from qmodal.functions.map.aio_feeder import feeding
    from qmodal.output.progress import shown

    client = current_for(find)
    fanout: MapCall[Any] = await client.aio(start(client, find, how))
    feeder = feeding(client, fanout, inputs)
    try:
        with shown(client, fanout):
            while not fanout.is_done:
                await feeder.step()
                for value in _taken(fanout):
                    yield value
    finally:
        try:
            await feeder.stop()
        finally:  # whoever is cancelled there, too
            await client.aio(fanout.stop())


def _taken(fanout: MapCall[Any]) -> list[Any]:
    """What has arrived; raises as an asyncio driver would."""
    from asyncio import CancelledError

    try:
        return fanout.arrivals.take()
    except CancelledError as error:
        raise in_task(error) from error


def start(client: Client, find: FindTarget, how: MapOptions) -> Op[MapCall[Any]]:
    """The state of a new map, or of one that an earlier producer has begun."""
    target = yield from find()
    fanout: MapCall[Any] = MapCall(client, target, how)
    yield from fanout.attach()
    return fanout


def refuse_in_loop(verb: str) -> None:
    """Raise InvalidError within a running event loop."""
    if is_in_loop():
        raise InvalidError(
            f"You can't run Function.{verb}() from an async function. "
            f"Use Function.{verb}.aio() instead."
        )


class Map(Generic[R]):
    """`f.map(...)` and `f.map.aio(...)`."""

    __slots__ = ("_find",)

    def __init__(self, find: FindTarget) -> None:
        self._find = find

    def __call__(
        self,
        *input_iterators: Any,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool | None = None,
        resume: str | None = None,
    ) -> Results[R]:
        """The results, to be iterated once; `resume` names a map that can be gone on with."""
        legacy.note_wrapping(wrap_returned_exceptions)
        inputs = InputReader.zipped("map", input_iterators, kwargs)
        how = MapOptions(
            ordered=order_outputs,
            return_exceptions=return_exceptions,
            keep=resume is not None,
            resume=resume,
        )
        return Results(self._find, "map", inputs, how)

    # The results can be iterated either way; their iterators are asked for only then.
    aio = __call__


class StarMap(Generic[R]):
    """`f.starmap(...)` and `f.starmap.aio(...)`."""

    __slots__ = ("_find",)

    def __init__(self, find: FindTarget) -> None:
        self._find = find

    def __call__(
        self,
        input_iterator: Any,
        *,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool | None = None,
        resume: str | None = None,
    ) -> Results[R]:
        """As `map`, with each element unpacked as positional arguments."""
        legacy.note_wrapping(wrap_returned_exceptions)
        how = MapOptions(
            ordered=order_outputs,
            return_exceptions=return_exceptions,
            keep=resume is not None,
            resume=resume,
        )
        inputs = InputReader((input_iterator,), kwargs or {}, is_star=True)
        return Results(self._find, "starmap", inputs, how)

    aio = __call__


class ForEach:
    """`f.for_each(...)` and `await f.for_each.aio(...)`."""

    __slots__ = ("_find",)

    def __init__(self, find: FindTarget) -> None:
        self._find = find

    def __call__(
        self,
        *input_iterators: Any,
        kwargs: dict[str, Any] | None = None,
        ignore_exceptions: bool = False,
    ) -> None:
        """As `map`, waiting for all and dropping the results."""
        refuse_in_loop("for_each")
        for _ in self._results(input_iterators, kwargs, ignore_exceptions):
            continue

    async def aio(
        self,
        *input_iterators: Any,
        kwargs: dict[str, Any] | None = None,
        ignore_exceptions: bool = False,
    ) -> None:
        """The same without blocking the event loop; also over async iterators."""
        async for _ in self._results(input_iterators, kwargs, ignore_exceptions):
            continue

    def _results(
        self, iterables: tuple[Any, ...], kwargs: dict[str, Any] | None, ignores: bool
    ) -> Results[Any]:
        inputs = InputReader.zipped("for_each", iterables, kwargs)
        how = MapOptions(ordered=False, return_exceptions=ignores)
        return Results(self._find, "for_each", inputs, how)
