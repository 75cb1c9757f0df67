"""Runs the inputs of a pack one after another, as if each had come alone.

A pack that takes long is taken apart, so that nothing waits in it while other containers are idle:
the thread that runs it stops between two inputs after 100 ms, and the release thread strikes the
unstarted inputs when a single one takes that long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from functools import partial
from types import NoneType
from typing import Any

from qmodal.client import context
from qmodal.wire import plain
from qmodal.wire.outcome import INLINE_BYTES, Outcome, Result
from qmodal_workers.container.process.forked_children import end_if_child, here
from qmodal_workers.container.run.interrupts import Interrupts
from qmodal_workers.container.run.invoker import IMMUTABLE, ORDINARY, Invoker
from qmodal_workers.container.run.pack import Pack
from qmodal_workers.ipc.shared_record import SharedRecord

# Types whose values take a few bytes, and types whose values are kept as they are up to SMALL_TEXT.
_TINY = frozenset({NoneType, bool, int, float})
_TEXTS = frozenset({str, bytes})
SMALL_TEXT = 1024
# A pack stops between two inputs after so long; PrefetchBuffer calls as much a long input.
LONG_NS = 100_000_000


def run(
    pack: Pack,
    function: Callable[..., Any],
    invoker: Invoker,
    interrupts: Interrupts,
    record: SharedRecord,
) -> None:
    """Run what can be run; raises only Preempted.

    Inputs share a context until one of them changes it, so none sees the changes of another: to make a
    context for each took a third of the time of a short input.
    """
    pack.begun = pack.since = time.monotonic_ns()
    pack.until = pack.begun + LONG_NS
    inputs, perform, goes_on = zip(*pack.columns, strict=True), _bound(function, pack.kwargs), True
    context.leave_input()  # so that it is set, and what else is set can be counted
    interrupts.expect_news()
    while goes_on:
        own = copy_context()
        goes_on = own.run(
            _run_in, own, pack, inputs, function, perform, invoker, interrupts, record
        )


def _run_in(
    own: Context,
    pack: Pack,
    inputs: Iterator[tuple[Any, ...]],
    function: Callable[..., Any],
    perform: Callable[..., Any],
    invoker: Invoker,
    interrupts: Interrupts,
    record: SharedRecord,
) -> bool:
    """Run inputs until one has changed its context; False if no more of the pack are to run here.

    Local names and no helper functions: an attribute or a call takes a tenth of a short input's time.
    """
    clock, enter, take, append = (
        time.monotonic_ns,
        context.enter,
        pack.waiting.popleft,
        pack.results.append,
    )
    started_cell, serial_cell, news_cell = record.started_cell, record.serial_cell, record.news_cell
    slot, call, first = interrupts.slot, pack.envelope.call, pack.claimed.first
    now, serial, news = pack.since, slot.serial, interrupts.heard
    size, has_changed = len(own), context.watcher(own)
    for args in inputs:
        try:
            place = take()  # from here on the release thread cannot strike it
        except IndexError:  # all inputs that were left were struck
            return False
        started_cell.value = now
        slot.serial = serial_cell.value = serial = serial + 1
        enter((call, first + place))
        try:
            slot.is_open = True
            if news_cell.value != news:
                news = interrupts.hear()
            value = perform(*args)
            slot.is_open = False
            if type(value) not in _TINY or here.is_child:
                value = _preserved(pack, value, function, invoker)
        except BaseException as error:
            value = _failed(pack, error, invoker)
        append(value)
        now = pack.since = clock()
        if now >= pack.until or slot.why or len(own) != size or (has_changed and has_changed()):
            return now < pack.until and interrupts.may_go_on()
    return False


def _bound(function: Callable[..., Any], kwargs: dict[str, Any]) -> Callable[..., Any]:
    """The function with these keyword arguments; no input sees what another one changes in them."""
    if not kwargs:
        return function
    if IMMUTABLE.issuperset(map(type, kwargs.values())):
        return partial(function, **kwargs)
    packed = plain.pack(kwargs)
    return lambda *args: function(*args, **plain.unpack(packed))


def _preserved(pack: Pack, value: Any, function: Callable[..., Any], invoker: Invoker) -> Any:
    """The value as it is at this moment: itself if it cannot change and is small, else an Outcome."""
    end_if_child()
    if type(value) not in ORDINARY:
        # In a copy of its context: the context itself is being run in.
        value = invoker.finish(function, value, copy_context())
    if type(value) in _TINY:
        return value
    if type(value) in _TEXTS and len(value) < SMALL_TEXT:
        _grow(pack, len(value))
        return value
    return _ended(pack, ("value", *invoker.dumped(value)), invoker)


def _failed(pack: Pack, error: BaseException, invoker: Invoker) -> Outcome:
    invoker.interrupts.slot.is_open = False
    return _ended(pack, invoker.failure(error, pack.claimed), invoker)


def _ended(pack: Pack, result: Result, invoker: Invoker) -> Outcome:
    _grow(pack, len(result[2]))
    pack.has_outcomes = True
    took = time.monotonic_ns() - pack.since
    began = (time.time_ns() - took) // 1_000_000
    return Outcome(*result, invoker.container, began, took // 1000)


def _grow(pack: Pack, size: int) -> None:
    """Count bytes of results; a pack too large for one outcome stops after this input."""
    pack.size += size
    if pack.size >= INLINE_BYTES:
        pack.until = 0
