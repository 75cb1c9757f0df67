"""The decorators that `@app.function(...)` and `@app.cls(...)` return: they register, and keep types."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, cast, overload

from qmodal.cls.partial_function import PartialFunction
from qmodal.functions.function import Function

P = ParamSpec("P")
R = TypeVar("R")
OriginalR = TypeVar("OriginalR")
C = TypeVar("C")


class FunctionDecorator:
    """What `@app.function(...)` returns; keeps parameter and result types."""

    def __init__(self, register: Callable[[Any], Any]) -> None:
        self._register = register

    @overload
    def __call__(self, function: PartialFunction[P, R, OriginalR]) -> Function[P, R, OriginalR]: ...
    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]]
    ) -> Function[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, function: Callable[P, R]) -> Function[P, R, R]: ...
    def __call__(self, function: Any) -> Any:
        """Register the function."""
        return self._register(function)


class ClsDecorator:
    """What `@app.cls(...)` returns; type checkers go on seeing the user's class."""

    def __init__(self, register: Callable[[Any], Any]) -> None:
        self._register = register

    def __call__(self, user_cls: C) -> C:
        """Register the class."""
        return cast("C", self._register(user_cls))


class LocalEntrypoint:
    """A function that runs on the caller's machine, as the start of a program."""

    def __init__(self, raw_f: Callable[..., Any], app: Any, name: str) -> None:
        self.raw_f = raw_f
        self.app = app
        self.name = name

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run it here."""
        return self.raw_f(*args, **kwargs)
