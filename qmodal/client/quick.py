"""Quick verbs: their plain form takes few steps for what is usual, and the operation's for everything else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from qmodal.client.process import state
from qmodal.client.verb import MethodDocstring, Verb, VerbMethod, is_in_loop

if TYPE_CHECKING:
    from qmodal.transport.operation import Op

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")
UNUSUAL: Any = object()


class QuickVerb(Verb[P, R]):
    """A verb with its object; `now` does what is usual, or returns UNUSUAL, and then the operation does it all."""

    __slots__ = ("_now",)
    __doc__ = MethodDocstring(__doc__)

    def __init__(self, now: Callable[..., Any], method: Callable[P, Op[R]]) -> None:
        self._now = now
        self._method = method

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do it and wait."""
        if is_in_loop():
            self._warn()
        known = state.client
        if known is not None and known.is_checked:
            result: R = self._now(known, self._method.__self__, *args, **kwargs)  # type: ignore[attr-defined]
            if result is not UNUSUAL:
                return result
        return self._run(*args, **kwargs)


class QuickMethod(VerbMethod[S, QuickVerb[P, R]]):
    """As its base, with fewer steps from the object to the verb."""

    def __init__(self, now: Callable[..., Any], method: Callable[Concatenate[S, P], Op[R]]) -> None:
        super().__init__(method, partial(QuickVerb, now))
        self._now = now

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        return QuickVerb(self._now, MethodType(self.__wrapped__, instance))


def quick_verb(
    now: Callable[..., Any],
) -> Callable[[Callable[Concatenate[S, P], Op[R]]], VerbMethod[S, QuickVerb[P, R]]]:
    """As `verb`; `now(client, object, ...)` has the method's parameters, and their defaults."""

    def made(method: Callable[Concatenate[S, P], Op[R]]) -> VerbMethod[S, QuickVerb[P, R]]:
        return QuickMethod(now, method)

    return made
