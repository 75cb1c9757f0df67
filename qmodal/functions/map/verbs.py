"""The map family: `map` and `starmap`, whose results are iterated, `for_each` and `spawn_map`."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from qmodal.client import deprecation as legacy
from qmodal.client.client import Client, current_for
from qmodal.client.verb import BoundVerb, Described, is_in_loop
from qmodal.exception import InvalidError
from qmodal.functions.call import FunctionCall
from qmodal.functions.map.inputs import Arguments, InputReader
from qmodal.functions.map.map_call import MapCall, MapOptions
from qmodal.functions.map.prefetch import Prefetch
from qmodal.functions.target import FindTarget, Target
from qmodal.transport.operation import Op, Pause

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")
log = logging.getLogger("qmodal")
# What a slow input iterator has given so far is submitted after this long.
LINGER_SECONDS = 0.01
# Most unsettled inputs of one `spawn_map`; submitting waits above it, and looks this often.
MOST_SPAWNED = 1_000_000
FULL_SECONDS = 1.0


class Results(Generic[R]):
    """The results of a map: nothing is sent before they are iterated, and that works once."""

    def __init__(
        self, find: FindTarget, verb: str, inputs: InputReader, options: MapOptions
    ) -> None:
        self._find = find
        self._verb = verb
        self._inputs = inputs
        self._options = options
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
        return _iterated(self._find, self._inputs, self._options)

    def __aiter__(self) -> AsyncIterator[R]:
        self._is_used = True
        if self._running is None:
            self._running = _aiterated(self._find, self._inputs, self._options)
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


def _iterated(find: FindTarget, inputs: InputReader, options: MapOptions) -> Iterator[Any]:
    # No method: results that are dropped end their map at once, without waiting for a cycle to be found.
    from qmodal.functions.map.feeders import feeder_of
    from qmodal.output.progress import shown

    client = current_for(find)
    call = client.run(_begun(client, find, options))
    feeder = feeder_of(client, call, inputs)
    try:
        with shown(client, call):
            while not call.is_done:
                feeder.wait()
                yield from client.run(_taken(call, feeder.step()))
    finally:
        try:
            feeder.stop()
        finally:  # whoever is interrupted there, too
            client.run(call.stop())


async def _aiterated(
    find: FindTarget, inputs: InputReader, options: MapOptions
) -> AsyncIterator[Any]:
    from qmodal.functions.map.feeders import async_feeder_of
    from qmodal.output.progress import shown

    client = current_for(find)
    call = await client.aio(_begun(client, find, options))
    feeder = async_feeder_of(client, call, inputs)
    try:
        with shown(client, call):
            while not call.is_done:
                await feeder.wait()
                for value in await client.aio(_taken(call, feeder.step())):
                    yield value
    finally:
        try:
            await feeder.stop()
        finally:  # whoever is cancelled there, too
            await client.aio(call.stop())


def _begun(client: Client, find: FindTarget, options: MapOptions) -> Op[MapCall[Any]]:
    """The state of a new map, or of one that an earlier producer has begun."""
    target = yield from find()
    call: MapCall[Any] = MapCall(client, target, options)
    yield from call.attach()
    return call


def _taken(call: MapCall[Any], step: Op[None]) -> Op[list[Any]]:
    """The results whose turn it is after the step; raises a fatal failure."""
    yield from step
    return call.take()


class Work(ABC, Generic[R]):
    """What one of two loops over inputs or results does, a plain and an asyncio one."""

    __slots__ = ()

    @abstractmethod
    def run(self) -> R:
        """Do it and wait."""

    @abstractmethod
    async def aio(self) -> R:
        """Do it without blocking the event loop."""


class Drain(Work[None]):
    """Waits for all results of a map and drops them."""

    __slots__ = ("_results",)

    def __init__(self, results: Results[Any]) -> None:
        self._results = results

    def run(self) -> None:
        """Wait for all."""
        for _ in self._results:
            continue

    async def aio(self) -> None:
        """Wait for all without blocking the event loop."""
        async for _ in self._results:
            continue


class Spawn(Work[FunctionCall[Any]]):
    """Submits all inputs of a call whose results nobody reads meanwhile."""

    __slots__ = ("_find", "_inputs", "_options")

    def __init__(self, find: FindTarget, inputs: InputReader, resume: str | None) -> None:
        self._find = find
        self._inputs = inputs
        self._options = MapOptions(keep=True, resume=resume)

    def run(self) -> FunctionCall[Any]:
        """Submit, and return the handle."""
        client = current_for(self._find)
        call = client.run(self._begin(client))
        inputs = self._inputs.plain(start=call.submitted)
        while not call.is_fed:
            chunk, ends, is_last = list[Arguments](), time.monotonic() + LINGER_SECONDS, True
            for arguments in inputs:
                chunk.append(arguments)
                if len(chunk) == call.chunk or time.monotonic() > ends:
                    is_last = False
                    break
            client.run(self._feed(client, call, chunk, is_last=is_last))
        return FunctionCall(call.call, call.submitted)

    async def aio(self) -> FunctionCall[Any]:
        """Submit, and return the handle, without blocking the event loop."""
        client = current_for(self._find)
        call = await client.aio(self._begin(client))
        inputs = self._inputs.aio(start=call.submitted)
        while not call.is_fed:
            chunk, ends, is_last = list[Arguments](), time.monotonic() + LINGER_SECONDS, True
            async for arguments in inputs:
                chunk.append(arguments)
                if len(chunk) == call.chunk or time.monotonic() > ends:
                    is_last = False
                    break
            await client.aio(self._feed(client, call, chunk, is_last=is_last))
        return FunctionCall(call.call, call.submitted)

    def _begin(self, client: Client) -> Op[MapCall[Any]]:
        """The call; inputs that are at hand are submitted at once."""
        call = yield from _begun(client, self._find, self._options)
        yield from call.expect_service_time()
        if self._inputs.is_at_hand:
            prefetch = Prefetch(call, self._inputs)
            while not call.is_fed:
                yield from self._wait_for_room(client, call)
                yield from prefetch.submit()
        return call

    def _feed(
        self, client: Client, call: MapCall[Any], chunk: list[Arguments], *, is_last: bool
    ) -> Op[None]:
        yield from self._wait_for_room(client, call)
        yield from call.feed(chunk, is_last=is_last)

    def _wait_for_room(self, client: Client, call: MapCall[Any]) -> Op[None]:
        """Wait until few enough inputs are unsettled; only the server knows how many."""
        while call.submitted - call.settled >= MOST_SPAWNED:
            record = yield from client.calls.record(call.call)
            call.settled = call.submitted if record is None else record.settled
            if call.submitted - call.settled >= MOST_SPAWNED:
                yield Pause(FULL_SECONDS)


class ResultsVerb(BoundVerb[P, Results[R]], Generic[P, R]):
    """A verb of the map family with its function: its results can be iterated either way."""

    __slots__ = ()

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Results[R]:
        """The results, to be iterated once."""
        return self._method(*args, **kwargs)

    aio = __call__


class WorkVerb(BoundVerb[P, Work[R]], Generic[P, R]):
    """A verb of the map family with its function: call it, or await its `aio`."""

    __slots__ = ()

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do it and wait; raises InvalidError within a running event loop."""
        if is_in_loop():
            raise InvalidError(
                f"You can't run Function.{self.__name__}() from an async function. "
                f"Use Function.{self.__name__}.aio() instead."
            )
        return self._method(*args, **kwargs).run()

    async def aio(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do it without blocking the event loop; also over async iterators."""
        return await self._method(*args, **kwargs).aio()


class ResultsVerbMethod(Described, Generic[S, P, R]):
    """What `@results_verb` leaves in the class: on a function it is a `ResultsVerb`."""

    def __init__(self, method: Callable[Concatenate[S, P], Results[R]]) -> None:
        super().__init__(method)

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: S, owner: type) -> ResultsVerb[P, R]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else ResultsVerb(self.bound(instance))


class WorkVerbMethod(Described, Generic[S, P, R]):
    """What `@work_verb` leaves in the class: on a function it is a `WorkVerb`."""

    def __init__(self, method: Callable[Concatenate[S, P], Work[R]]) -> None:
        super().__init__(method)

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: S, owner: type) -> WorkVerb[P, R]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else WorkVerb(self.bound(instance))


def results_verb(
    method: Callable[Concatenate[S, P], Results[R]],
) -> ResultsVerbMethod[S, P, R]:
    """Make a verb of a method that returns the results of a map."""
    return ResultsVerbMethod(method)


def work_verb(method: Callable[Concatenate[S, P], Work[R]]) -> WorkVerbMethod[S, P, R]:
    """Make a verb of a method that returns work on many inputs."""
    return WorkVerbMethod(method)


class MapVerbs(Generic[R]):
    """What a Function does with many inputs."""

    __slots__ = ()

    @abstractmethod
    def _plain_target(self, verb: str) -> Op[Target]:
        """Whom the inputs are for; raises InvalidError for what `verb` cannot call."""

    def _map_target(self) -> Op[Target]:
        return self._plain_target("map")

    @results_verb
    def map(
        self,
        *input_iterators: Any,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool | None = None,
        resume: str | None = None,
    ) -> Results[R]:
        """Run it for each element of one or more iterables, in parallel; results in order.

        `resume` names a map that another process can go on with.

        >>> list(square.map([1, 2, 3]))
        [1, 4, 9]
        """
        legacy.note_wrapping(wrap_returned_exceptions, level=4)
        inputs = InputReader.zipped("map", input_iterators, kwargs)
        options = MapOptions(
            ordered=order_outputs,
            return_exceptions=return_exceptions,
            keep=resume is not None,
            resume=resume,
        )
        return Results(self._map_target, "map", inputs, options)

    @results_verb
    def starmap(
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
        legacy.note_wrapping(wrap_returned_exceptions, level=4)
        inputs = InputReader((input_iterator,), kwargs or {}, is_star=True)
        options = MapOptions(
            ordered=order_outputs,
            return_exceptions=return_exceptions,
            keep=resume is not None,
            resume=resume,
        )
        return Results(self._map_target, "starmap", inputs, options)

    @work_verb
    def for_each(
        self,
        *input_iterators: Any,
        kwargs: dict[str, Any] | None = None,
        ignore_exceptions: bool = False,
    ) -> Work[None]:
        """As `map`, waiting for all and dropping the results."""
        inputs = InputReader.zipped("for_each", input_iterators, kwargs)
        options = MapOptions(ordered=False, return_exceptions=ignore_exceptions)
        return Drain(Results(self._map_target, "for_each", inputs, options))

    @work_verb
    def spawn_map(
        self,
        *input_iterators: Any,
        kwargs: dict[str, Any] | None = None,
        resume: str | None = None,
    ) -> Work[FunctionCall[R]]:
        """Submit an input for each element; one FunctionCall with all of them.

        With `resume`, only what was not submitted before under that key.
        """
        inputs = InputReader.zipped("spawn_map", input_iterators, kwargs)
        return Spawn(self._map_target, inputs, resume)
