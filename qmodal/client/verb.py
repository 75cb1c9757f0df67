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
from qmodal.exception import AsyncUsageWarning, Error

if TYPE_CHECKING:
    from qmodal.transport.operation import Op

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class _Docstring:
    """The `__doc__` of a verb's class, and on an object that of the verb's method."""

    def __init__(self, of_class: str | None) -> None:
        self._of_class = of_class

    def __get__(self, instance: Any, owner: type) -> str | None:
        doc: str | None = self._of_class if instance is None else instance._method.__doc__
        return doc


class BoundVerb(Generic[P, T]):
    """A verb with its object; its name, docstring and signature are those of the method."""

    __slots__ = ("_method",)

    def __init__(self, method: Callable[P, T]) -> None:
        self._method = method

    @property
    def __wrapped__(self) -> Callable[P, T]:
        return self._method

    @property
    def __name__(self) -> str:
        # Of a function beside its class, such as `_lookup`, the name in the class.
        return str(getattr(self._method, "__name__", self._method)).lstrip("_")

    def __repr__(self) -> str:
        return f"<verb {getattr(self._method, '__qualname__', self.__name__)}>"


class Verb(BoundVerb[P, "Op[R]"], Generic[P, R]):
    """A verb with its object: call it, or await its `aio`."""

    __slots__ = ()
    __doc__ = _Docstring(__doc__)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do it and wait."""
        if is_in_loop():
            warnings.warn(
                f"{self.__name__} blocks the event loop; await its `.aio` form",
                AsyncUsageWarning,
                stacklevel=2,
            )
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
    __doc__ = _Docstring(__doc__)

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


class Described:
    """A descriptor with the name, the docstring and the signature of the method it was made of."""

    __wrapped__: Callable[..., Any]

    def __init__(self, method: Callable[..., Any]) -> None:
        vars(self).update({name: getattr(method, name) for name in WRAPPER_ASSIGNMENTS})
        self.__wrapped__ = method

    def bound(self, instance: object) -> Callable[..., Any]:
        """The method of this object."""
        return MethodType(self.__wrapped__, instance)


class VerbMethod(Described, Generic[S, P, R]):
    """What `@verb` leaves in the class: on an object it is a `Verb`."""

    def __init__(self, method: Callable[Concatenate[S, P], Op[R]]) -> None:
        super().__init__(method)

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: S, owner: type) -> Verb[P, R]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else Verb(self.bound(instance))


class OldVerbMethod(VerbMethod[S, P, R]):
    """A verb under a name of an earlier version of Modal: asking for it warns."""

    def __init__(
        self, method: Callable[Concatenate[S, P], Op[R]], old_name: str, instead: str
    ) -> None:
        super().__init__(method)
        self._old_name = old_name
        self._instead = instead

    def bound(self, instance: object) -> Callable[..., Any]:
        """The method of this object; warns the line that asks for it."""
        deprecation.warn(self._old_name, self._instead, level=3)
        return super().bound(instance)


class StreamVerbMethod(Described, Generic[S, P, R]):
    """What `@stream_verb` leaves in the class: on an object it is a `StreamVerb`."""

    def __init__(self, method: Callable[Concatenate[S, P], Stream[R]]) -> None:
        super().__init__(method)

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: S, owner: type) -> StreamVerb[P, R]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else StreamVerb(self.bound(instance))


def verb(method: Callable[Concatenate[S, P], Op[R]]) -> VerbMethod[S, P, R]:
    """Make a verb of a method that returns an operation."""
    return VerbMethod(method)


def old_verb(
    old_name: str, instead: str
) -> Callable[[Callable[Concatenate[S, P], Op[R]]], OldVerbMethod[S, P, R]]:
    """As `verb`, for a name that still works: people are told what to use instead."""
    return lambda method: OldVerbMethod(method, old_name, instead)


def stream_verb(method: Callable[Concatenate[S, P], Stream[R]]) -> StreamVerbMethod[S, P, R]:
    """Make a verb of a method that returns a stream."""
    return StreamVerbMethod(method)


def is_in_loop() -> bool:
    """Whether an event loop runs in this thread; without importing asyncio if nobody did."""
    # While another thread imports it, there is a module without what it will have. No loop runs here then.
    find = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    return find is not None and find() is not None
