"""Runs several operations at once: their commands go out in one write."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from qmodal.transport.errors import first_error, judge, to_exception
from qmodal.transport.operation import Effect, Exchange, Op, ask_each

log = logging.getLogger("qmodal.autoscaler")


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
        except Exception as error:
            # Whoever asked for it says so; the others go on.
            log.debug("one of several operations failed", exc_info=True)
            self.result = error

    def answer(self, replies: list[Any]) -> None:
        """Give it its replies; an error among them, unless it has asked for such."""
        is_each = self.request is not None and self.request.each
        refusal = None if is_each else first_error(replies)
        if refusal is None:
            self.advance(lambda op: op.send(replies))
        else:
            error = to_exception(refusal, judge(refusal))
            self.advance(lambda op: op.throw(error))


def gather(ops: Iterable[Op[Any]]) -> Op[list[Any]]:
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
    """As `gather`, but raises the first exception."""
    results = yield from gather(ops)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def _exchange(waiting: list[_Run]) -> Op[None]:
    requests = [run.request.commands if run.request else () for run in waiting]
    replies = yield from ask_each(command for each in requests for command in each)
    start = 0
    for run, commands in zip(waiting, requests, strict=True):
        run.answer(replies[start : start + len(commands)])
        start += len(commands)
