"""Batched functions: callers give and get one of what user code takes and returns lists of."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from qmodal.exception import InvalidError
from qmodal.wire.payload import Arguments


class BatchedFunction:
    """A batched function or method; `is_async`: it returns an awaitable."""

    __slots__ = ("_name", "_signature", "function", "is_async")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        self._signature = inspect.signature(function)
        self._name = function.__qualname__

    def lists(self, inputs: Sequence[Arguments]) -> dict[str, list[Any]]:
        """A list for each parameter, by its name; raises TypeError if one of the callers' is not taken."""
        bound = [self._signature.bind(*args, **kwargs).arguments for args, kwargs in inputs]
        if any(each.keys() != bound[0].keys() for each in bound):  # `*args` or `**kwargs`
            raise TypeError(f"{self._name} is batched: all callers must give the same arguments")
        return {name: [each[name] for each in bound] for name in bound[0]}

    def parted(self, returned: Any, count: int) -> list[Any]:
        """One result for each input; raises InvalidError unless it is a list of so many."""
        if type(returned) is not list:
            raise InvalidError(f"Output of batched function {self._name} must be a list.")
        if len(returned) != count:
            raise InvalidError(
                f"Output of batched function {self._name} must be a list of equal length as its inputs."
            )
        return returned
