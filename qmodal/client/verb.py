"""Verbs: methods that block when they are called and have an asyncio twin as `.aio`.

A verb is written once, as a method that returns an operation, and `@verb` makes the pair of it:
`f.remote(...)` and `await f.remote.aio(...)`. `@stream_verb` does so for a method that returns a `Stream`:
`for x in call.iter()` and `async for x in call.iter.aio()`. Either form drives the same operations, so
neither is a wrapper around the other.
"""

from __future__ import annotations

import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import suppress
from functools import WRAPPER_ASSIGNMENTS, partial
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from qmodal.client import client, deprecation
from qmodal.client.notebook import is_cell
from qmodal.client.signatures import VerbSignature
from qmodal.exception import AsyncUsageWarning, Error

if TYPE_CHECKING:
    from qmodal.transport.operation import Op

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
V = TypeVar("V")


class MethodDocstring:
    """The `__doc__` of a verb's class, and on an object that of the verb's method."""

    def __init__(self, of_class: str | None) -> None:
        self._of_class = of_class

    def __get__(self, instance: Any, owner: type) -> str | None:
        doc: str | None = self._of_class if instance is None else instance._method.__doc__
        return doc


class BoundVerb(Generic[P, T]):
    """A verb with its object; its name, docstring and parameters are those of the method."""

    __slots__ = ("_method",)
    __signature__ = VerbSignature()

    def __init__(self, method: Callable[P, T]) -> None:
        self._method = method

    @property
    def __wrapped__(self) -> Callable[P, T]:
        return self._method

    @property
    def __name__(self) -> str:
        # Of a function beside its class, such as `_lookup`, the name in the class.
        return str(getattr(self._method, "__name__", self._method)).lstrip("_")

    def __get__(self, instance: Any, owner: type | None = None) -> Self:
        # `help` shows the signature of what has a `__get__`, as methods do.
        return self

    def __repr__(self) -> str:
        return f"<verb {getattr(self._method, '__qualname__', self.__name__)}>"


class Verb(BoundVerb[P, "Op[R]"], Generic[P, R]):
    """A verb with its object: call it, or await its `aio`."""

    __slots__ = ()
    __doc__ = MethodDocstring(__doc__)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do it and wait."""
        if is_in_loop():
            self._warn()
        return self._run(*args, **kwargs)

    def _warn(self) -> None:
        warnings.warn(
            f"{self.__name__} blocks the event loop; await its `.aio` form",
            AsyncUsageWarning,
            stacklevel=3,
        )

    def _run(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        known = client.known() or client.current_for(partial(self._method, *args, **kwargs))
        return known.run(self._method(*args, **kwargs))

    async def aio(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do it without blocking the event loop."""
        known = client.known() or client.current_for(partial(self._method, *args, **kwargs))
        return await known.aio(self._method(*args, **kwargs))

    def op(self, /, *args: P.args, **kwargs: P.kwargs) -> Op[R]:
        """The operation by itself, as a part of another one."""
        return self._method(*args, **kwargs)


class Stream(ABC, Generic[R]):
    """What comes one page after another, each by an operation."""

    __slots__ = ()

    @abstractmethod
    def next(self) -> Op[Sequence[R] | None]:
        """The next page, perhaps an empty one; None behind the last."""

    def close(self) -> Op[None]:
        """Nobody reads on."""
        yield from ()


class StreamVerb(BoundVerb[P, Stream[R]], Generic[P, R]):
    """A verb with its object: iterate over what it returns, or over that of `aio` with `async for`."""

    __slots__ = ()
    __doc__ = MethodDocstring(__doc__)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Generator[R, None, None]:
        """Iterate; nothing is asked of the server before the first element is."""
        return _iterated(self._method(*args, **kwargs), self.__name__)

    def aio(self, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[R, None]:
        """Iterate without blocking the event loop."""
        return _aiterated(self._method(*args, **kwargs))


def _iterated(stream: Stream[R], name: str) -> Generator[R, None, None]:
    if is_in_loop():
        warnings.warn(
            f"{name} blocks the event loop; use `async for ... in ...{name}.aio(...)`",
            AsyncUsageWarning,
            stacklevel=2,
        )
    known = client.current_for(stream.next)
    try:
        while (page := known.run(stream.next())) is not None:
            yield from page
    finally:
        # Also while the process or its server goes away: nobody is left to tell.
        with suppress(Error):
            known.run(stream.close())


async def _aiterated(stream: Stream[R]) -> AsyncGenerator[R, None]:
    known = client.current_for(stream.next)
    try:
        while (page := await known.aio(stream.next())) is not None:
            for element in page:
                yield element
    finally:
        with suppress(Error):
            await known.aio(stream.close())


class VerbMethod(Generic[S, V]):
    """A verb in its class: on an object it is the `V` that `bind` makes of the object's method.

    It has the name, the docstring and the parameters of the method, and can be called with an object as that can.
    """

    __wrapped__: Callable[..., Any]
    __signature__ = VerbSignature()

    def __init__(
        self, method: Callable[Concatenate[S, P], T], bind: Callable[[Callable[P, T]], V]
    ) -> None:
        vars(self).update({name: getattr(method, name) for name in WRAPPER_ASSIGNMENTS})
        self.__wrapped__ = method
        self._bind: Callable[[Any], V] = bind

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: S, owner: type) -> V: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else self._bind(MethodType(self.__wrapped__, instance))

    def __call__(self, instance: S, /, *args: Any, **kwargs: Any) -> Any:
        """As the verb of that object."""
        bound: Any = self.__get__(instance, type(instance))
        return bound(*args, **kwargs)


def verb(method: Callable[Concatenate[S, P], Op[R]]) -> VerbMethod[S, Verb[P, R]]:
    """Make a verb of a method that returns an operation."""
    return VerbMethod(method, Verb)


def old_verb(
    old_name: str, instead: str
) -> Callable[[Callable[Concatenate[S, P], Op[R]]], VerbMethod[S, Verb[P, R]]]:
    """As `verb`, for a name of an earlier version of Modal: asking for it warns."""

    def bind(method: Callable[P, Op[R]]) -> Verb[P, R]:
        deprecation.warn(old_name, instead, level=3)
        return Verb(method)

    return lambda method: VerbMethod(method, bind)


def stream_verb(method: Callable[Concatenate[S, P], Stream[R]]) -> VerbMethod[S, StreamVerb[P, R]]:
    """Make a verb of a method that returns a stream."""
    return VerbMethod(method, StreamVerb)


def is_in_loop() -> bool:
    """Whether an event loop runs in this thread that must not be blocked; that of a notebook's cells may be.

    Without importing asyncio if nobody did.
    """
    # While another thread imports it, there is a module without what it will have. No loop runs here then.
    find = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    return find is not None and find() is not None and not is_cell()
