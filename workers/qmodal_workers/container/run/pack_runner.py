"""Runs the inputs of a pack one after another, as if each had come alone.

A pack that takes long is taken apart, so that nothing waits in it while other containers are idle:
the thread that runs it stops between two inputs after 100 ms, and the release thread strikes what
is not started when a single input takes that long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from functools import partial
from types import NoneType
from typing import Any

from qmodal.client import context
from qmodal.wire import plain
from qmodal.wire.outcome import INLINE_BYTES, Outcome, Result
from qmodal_workers.container.forked_children import end_if_child, here
from qmodal_workers.container.run.invoker import IMMUTABLE, ORDINARY, Invoker
from qmodal_workers.container.run.pack import Pack
from qmodal_workers.ipc.shared_record import CANCELLED, SharedRecord

# Values that take no more room than a few bytes.
_TINY = frozenset({NoneType, bool, int, float})
# For a context in which nothing is set: as a rule it is one variable, which is looked at without a loop.
_NEVER_SET: context.Known = (ContextVar("never", default=None), None)
_TEXTS = frozenset({str, bytes})
SMALL = 1024
LONG_NS = 100_000_000


def run(pack: Pack, function: Callable[..., Any], invoker: Invoker, record: SharedRecord) -> None:
    """Run what can be run; raises only Preempted.

    Each input has a context of its own, which those share that change nothing in it: a context for
    each took a third of the time of a short one.
    """
    pack.begun = pack.since = time.monotonic_ns()
    pack.until = pack.begun + LONG_NS
    inputs, perform, is_over = _started(pack), _bound(function, pack.kwargs), False
    context.leave_input()  # so that it is set, and what else is set can be counted
    while not is_over:
        own = copy_context()
        is_over = own.run(_run_in, own, pack, inputs, function, perform, invoker, record)


def _run_in(
    own: Context,
    pack: Pack,
    inputs: Iterator[tuple[int, tuple[Any, ...]]],
    function: Callable[..., Any],
    perform: Callable[..., Any],
    invoker: Invoker,
    record: SharedRecord,
) -> bool:
    """Run inputs until one has changed its context; True if nothing of the pack is to run any more."""
    clock, enter, listen = time.monotonic_ns, context.enter, invoker.interrupts.listen
    started_cell, serial_cell, slot = record.started_cell, record.serial_cell, invoker.loop.slot
    call, first, append = pack.envelope.call, pack.claimed.first, pack.results.append
    now, size, serial = pack.since, len(own), slot.serial
    (one, value_of_one), *more = context.others(own) or [_NEVER_SET]
    for place, args in inputs:
        started_cell.value = now
        slot.serial = serial_cell.value = serial = serial + 1
        enter((call, first + place))
        try:
            listen()
            value = perform(*args)
            slot.is_open = False
            if here.is_child:
                end_if_child()
            if type(value) not in _TINY:
                value = _kept(pack, value, function, invoker)
        except BaseException as error:
            slot.is_open = False
            value = _ended(pack, invoker.failure(error), invoker)
        append(value)
        now = pack.since = clock()
        if now >= pack.until or slot.why == CANCELLED:
            break
        if len(own) != size or one.get() is not value_of_one or (more and context.differ(more)):
            return False
    return True


def _bound(function: Callable[..., Any], kwargs: dict[str, Any]) -> Callable[..., Any]:
    """The function with these arguments; what one input changes in them, the next does not see."""
    if not kwargs:
        return function
    if IMMUTABLE.issuperset(map(type, kwargs.values())):
        return partial(function, **kwargs)
    packed = plain.pack(kwargs)
    return lambda *args: function(*args, **plain.unpack(packed))


def _started(pack: Pack) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """The inputs that run here, each with its place, which nobody else can take from then on."""
    take = pack.waiting.popleft
    with suppress(IndexError):  # none is left, or all were struck at this moment
        for args in zip(*pack.columns, strict=True):
            yield take(), args


def _kept(pack: Pack, value: Any, function: Callable[..., Any], invoker: Invoker) -> Any:
    """The value as it is at this moment, whatever user code does to it later."""
    if type(value) not in ORDINARY:
        # In a copy of its context, which is in use.
        value = invoker.finish(function, value, copy_context())
    if type(value) in _TINY:
        return value
    if type(value) in _TEXTS and len(value) < SMALL:
        _grow(pack, len(value))
        return value
    return _ended(pack, ("value", *invoker.dumped(value)), invoker)


def _ended(pack: Pack, result: Result, invoker: Invoker) -> Outcome:
    _grow(pack, len(result[2]))
    pack.has_outcomes = True
    took = time.monotonic_ns() - pack.since
    began = (time.time_ns() - took) // 1_000_000
    return Outcome(*result, invoker.container, began, took // 1000)


def _grow(pack: Pack, size: int) -> None:
    """Count bytes of results; what would be too large for one outcome stops after this input."""
    pack.size += size
    if pack.size >= INLINE_BYTES:
        pack.until = 0
