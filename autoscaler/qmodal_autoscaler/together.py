"""Several operations in one write: each says what it asks, and all of it goes out together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from qmodal.exception import ConnectionError, Error
from qmodal.store.exchange import Effect, Exchange, Op

# What foreign or damaged bytes, another release's records or an odd reply can lead to. Whoever
# meets one of these about one pool or one box goes on with the others.
UNKNOWN: tuple[type[Exception], ...] = (
    Error,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    msgpack.UnpackException,
)


@dataclass(slots=True)
class _Run:
    """One of the operations: its next request, or (when that is None) its result."""

    op: Op[Any]
    request: Exchange | None = None
    result: Any = None

    def advance(self, move: Callable[[Op[Any]], Effect]) -> None:
        """Let it go on to its next request or to its end."""
        self.request = None
        try:
            effect = move(self.op)
            if not isinstance(effect, Exchange) or effect.waits:
                raise TypeError(f"{effect!r} cannot share a write")
            self.request = effect
        except StopIteration as done:
            self.result = done.value
        except UNKNOWN as error:
            self.result = error

    def answer(self, replies: list[Any]) -> None:
        self.advance(lambda op: op.send(replies))

    def refuse(self, error: Error) -> None:
        self.advance(lambda op: op.throw(error))


def together(ops: Iterable[Op[Any]]) -> Op[list[Any]]:
    """Run the operations side by side; an operation that failed gives its exception as result.

    Raises ConnectionError, which concerns all of them.
    """
    runs = [_Run(op) for op in ops]
    for run in runs:
        run.advance(next)
    while waiting := [run for run in runs if run.request is not None]:
        yield from _exchange(waiting)
    return [run.result for run in runs]


def all_of(*ops: Op[Any]) -> Op[list[Any]]:
    """As `together`, but raises the first exception."""
    results = yield from together(ops)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def _exchange(waiting: Sequence[_Run]) -> Op[None]:
    requests = [run.request.commands if run.request else () for run in waiting]
    try:
        replies = yield Exchange(tuple(command for each in requests for command in each))
    except ConnectionError:
        raise
    except Error:
        # One refused command would hide the replies of all the others.
        yield from _one_by_one(waiting)
        return
    start = 0
    for run, commands in zip(waiting, requests, strict=True):
        run.answer(replies[start : start + len(commands)])
        start += len(commands)


def _one_by_one(waiting: Sequence[_Run]) -> Op[None]:
    for run in waiting:
        if run.request is None:
            continue
        try:
            replies = yield run.request
        except ConnectionError:
            raise
        except Error as error:
            run.refuse(error)
        else:
            run.answer(replies)
