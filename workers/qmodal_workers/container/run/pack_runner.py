"""A pack at work: its inputs run one after another as if each had come alone.

A pack that takes long is taken apart, so that nothing waits in it while other containers are idle:
the thread that runs it stops between two inputs after 100 ms, and the release thread strikes what
is not started when a single input takes that long.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial
from types import NoneType
from typing import Any

from qmodal.client import context
from qmodal.store.entries import Claimed
from qmodal.transport.operation import Op
from qmodal.wire import plain
from qmodal.wire.envelope import Envelope
from qmodal.wire.outcome import INLINE_BYTES, Outcome, Result
from qmodal_workers.container.forked_children import end_if_child, here
from qmodal_workers.container.run.invoker import IMMUTABLE, ORDINARY, Invoker
from qmodal_workers.ipc.shared_record import CANCELLED, SERIAL, STARTED, SharedRecord

# Values that take no more room than a few bytes.
_TINY = frozenset({NoneType, bool, int, float})
# For a context in which nothing is set: as a rule it is one variable, which is looked at without a loop.
_NEVER_SET: context.Known = (ContextVar("never", default=None), None)
_TEXTS = frozenset({str, bytes})
SMALL = 1024
LONG_NS = 100_000_000


@dataclass(slots=True)
class Pack:
    """The inputs `begin` to `end` of one entry, by their place in it.

    `waiting` are the places that are not started: the running thread takes them from the left, the
    release thread from the right, and no lock is needed for that. `lock` is for what follows from it.
    `results` holds, from `begin` on, a plain value or an Outcome for each input that has ended.
    `begun` is when the first of these was started, `since` when the last one was or has ended.
    Times in monotonic nanoseconds, `size` in bytes.
    """

    claimed: Claimed
    envelope: Envelope
    kwargs: dict[str, Any]
    columns: list[list[Any]]  # the first, the second, ... argument of all inputs
    lock: threading.Lock
    end: int = 0
    begin: int = 0
    begun: int = 0
    since: int = 0
    size: int = 0
    waiting: deque[int] = field(default_factory=deque)
    results: list[Any] = field(default_factory=list)
    has_outcomes: bool = False  # among the results
    struck: list[int] = field(default_factory=list)  # places that will not be started here
    is_kept: bool = False  # the entry stands for one input, the rest was split off
    parting: tuple[int, Callable[[], Op[bool]]] | None = None  # a split that may have been done

    def __post_init__(self) -> None:
        self.end = self.claimed.size
        self.waiting.extend(range(self.end))

    def index_of(self, place: int) -> int:
        """The index in its call of the input at that place."""
        return self.claimed.first + place

    @property
    def done(self) -> int:
        """The place behind the last that has ended."""
        return self.begin + len(self.results)

    @property
    def each(self) -> int:
        """What one input took, on the average.

        Not the slowest one: in a pack of hundreds some input always had to wait for a processor.
        """
        return (self.since - self.begun) // max(1, len(self.results))

    def strike(self) -> None:
        """Take all that is not started away from the thread that runs the pack."""
        with suppress(IndexError):
            while True:
                self.struck.insert(0, self.waiting.pop())

    def give_back(self) -> None:
        """What was struck may be started after all."""
        self.waiting.extend(self.struck)
        self.struck.clear()
        self.parting = None

    def leave(self, place: int) -> None:
        """Nothing but the input that runs is ours any more; its result may be there meanwhile."""
        del self.results[: place - self.begin]
        self.begin, self.end, self.is_kept = place, place + 1, True
        if not self.results:
            self.begun = self.since
        self.parting = None


def run(
    work: Pack, function: Callable[..., Any], invoker: Invoker, serial: int, record: SharedRecord
) -> int:
    """Run what can be run; the last serial that was used. Raises only Preempted.

    Each input has a context of its own, which those share that change nothing in it: a context for
    each took a third of the time of a short one.
    """
    work.begun = work.since = time.monotonic_ns()
    inputs, is_over = _started(work), False
    context.leave_input()  # so that it is set, and what else is set can be counted
    while not is_over:
        own = copy_context()
        serial, is_over = own.run(_run_in, own, work, inputs, function, invoker, serial, record)
    return serial


def _run_in(
    own: Context,
    work: Pack,
    inputs: Iterator[tuple[int, tuple[Any, ...]]],
    function: Callable[..., Any],
    invoker: Invoker,
    serial: int,
    record: SharedRecord,
) -> tuple[int, bool]:
    """Until one has changed its context, or all is done: the last serial, and which of the two."""
    clock, enter, interrupts, words = (
        time.monotonic_ns,
        context.enter,
        invoker.interrupts,
        record.words,
    )
    call, first, append = work.envelope.call, work.claimed.first, work.results.append
    perform = _bound(function, work.kwargs)
    until, now, size = work.begun + LONG_NS, work.since, len(own)
    (one, value_of_one), *more = context.others(own) or [_NEVER_SET]
    for place, args in inputs:
        words[STARTED] = now
        serial = words[SERIAL] = serial + 1
        enter((call, first + place))
        try:
            interrupts.listen(serial)
            value = perform(*args)
            interrupts.serial = 0
            if here.is_child:
                end_if_child()
            if type(value) not in _TINY:
                value = _kept(work, value, serial, function, invoker)
        except BaseException as error:
            interrupts.serial = 0
            value = _ended(work, invoker.failure(error, serial), invoker)
        append(value)
        now = work.since = clock()
        if now >= until or work.size >= INLINE_BYTES or interrupts.why == CANCELLED:
            break
        if len(own) != size or one.get() is not value_of_one or (more and context.differ(more)):
            return serial, False
    return serial, True


def _bound(function: Callable[..., Any], kwargs: dict[str, Any]) -> Callable[..., Any]:
    """The function with these arguments; what one input changes in them, the next does not see."""
    if not kwargs:
        return function
    if IMMUTABLE.issuperset(map(type, kwargs.values())):
        return partial(function, **kwargs)
    packed = plain.pack(kwargs)
    return lambda *args: function(*args, **plain.unpack(packed))


def _started(work: Pack) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """The inputs that run here, each with its place, which nobody else can take from then on."""
    take = work.waiting.popleft
    with suppress(IndexError):  # none is left, or all were struck at this moment
        for args in zip(*work.columns, strict=True):
            yield take(), args


def _kept(
    work: Pack, value: Any, serial: int, function: Callable[..., Any], invoker: Invoker
) -> Any:
    """The value as it is at this moment, whatever user code does to it later."""
    if type(value) not in ORDINARY:
        # In a copy of its context, which is in use.
        value = invoker.finish(function, value, serial, copy_context())
    if type(value) in _TINY:
        return value
    if type(value) in _TEXTS and len(value) < SMALL:
        work.size += len(value)
        return value
    return _ended(work, ("value", *invoker.dumped(value, serial)), invoker)


def _ended(work: Pack, result: Result, invoker: Invoker) -> Outcome:
    work.size += len(result[2])
    work.has_outcomes = True
    took = time.monotonic_ns() - work.since
    began = (time.time_ns() - took) // 1_000_000
    return Outcome(*result, invoker.container, began, took // 1000)
