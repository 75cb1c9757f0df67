"""Batched functions while each input is a batch of its own: lists of one in, a list of one out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from qmodal.exception import InvalidError


def batch_of_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as its callers see it: it takes and returns one of what it has lists of.

    Without this a caller's text would arrive where a list of texts is expected, and be taken for
    one. Raises TypeError for arguments that it does not take, InvalidError unless it returns a list
    of one.
    """
    signature = inspect.signature(function)
    name = function.__qualname__

    def lists(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, list[Any]]:
        bound = signature.bind(*args, **kwargs)
        return {parameter: [value] for parameter, value in bound.arguments.items()}

    def only(returned: Any) -> Any:
        if type(returned) is not list:
            raise InvalidError(f"Output of batched function {name} must be a list.")
        if len(returned) != 1:
            raise InvalidError(
                f"Output of batched function {name} must be a list of equal length as its inputs."
            )
        return returned[0]

    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            return only(await function(**lists(args, kwargs)))

        return awaited

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        return only(function(**lists(args, kwargs)))

    return called
