"""A blocking verb with an asyncio twin: `f.remote(...)` and `await f.remote.aio(...)`.

Both drive the same operation, so neither is a wrapper around the other.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

from qmodal.client import client
from qmodal.exception import AsyncUsageWarning

if TYPE_CHECKING:
    from qmodal.transport.operation import Op

P = ParamSpec("P")
R = TypeVar("R")


class Verb(Generic[P, R]):
    """A verb bound to its object."""

    __slots__ = ("_op",)

    def __init__(self, op: Callable[P, Op[R]]) -> None:
        self._op = op

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do it and wait."""
        if is_in_loop():
            warnings.warn(
                f"{_name(self._op)} blocks the event loop; await its `.aio` form",
                AsyncUsageWarning,
                stacklevel=2,
            )
        known = client.known() or client.current_for(partial(self._op, *args, **kwargs))
        return known.run(self._op(*args, **kwargs))

    async def aio(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do it without blocking the event loop."""
        known = client.known() or client.current_for(partial(self._op, *args, **kwargs))
        return await known.aio(self._op(*args, **kwargs))


def _name(op: Callable[..., object]) -> str:
    return str(getattr(getattr(op, "func", op), "__name__", op)).lstrip("_")


def is_in_loop() -> bool:
    """Whether an event loop runs in this thread; without importing asyncio if nobody did."""
    # While another thread imports it, there is a module without what it will have. No loop runs here then.
    find = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    return find is not None and find() is not None
