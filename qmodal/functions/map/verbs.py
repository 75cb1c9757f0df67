"""The map family: `map` and `starmap`, whose results are iterated, `for_each` and `spawn_map`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from qmodal.client import deprecation as legacy
from qmodal.client.verb import BoundVerb, MethodDocstring, VerbMethod, is_in_loop
from qmodal.exception import InvalidError
from qmodal.functions.call import FunctionCall
from qmodal.functions.map.inputs import InputReader
from qmodal.functions.map.map_call import MapOptions
from qmodal.functions.map.map_results import Results
from qmodal.functions.map.work import Drain, Spawn, Work
from qmodal.functions.target import Target
from qmodal.transport.operation import Op

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")


class ResultsVerb(BoundVerb[P, Results[R]], Generic[P, R]):
    """A verb of the map family with its function: its results can be iterated either way."""

    __slots__ = ()
    __doc__ = MethodDocstring(__doc__)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Results[R]:
        """The results, to be iterated once."""
        return self._method(*args, **kwargs)

    aio = __call__


class WorkVerb(BoundVerb[P, Work[R]], Generic[P, R]):
    """A verb of the map family with its function: call it, or await its `aio`."""

    __slots__ = ()
    __doc__ = MethodDocstring(__doc__)

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


def results_verb(
    method: Callable[Concatenate[S, P], Results[R]],
) -> VerbMethod[S, ResultsVerb[P, R]]:
    """Make a verb of a method that returns the results of a map."""
    return VerbMethod(method, ResultsVerb)


def work_verb(method: Callable[Concatenate[S, P], Work[R]]) -> VerbMethod[S, WorkVerb[P, R]]:
    """Make a verb of a method that returns work on many inputs."""
    return VerbMethod(method, WorkVerb)


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
            ordered=order_outputs, return_exceptions=return_exceptions, resume=resume
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
            ordered=order_outputs, return_exceptions=return_exceptions, resume=resume
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
