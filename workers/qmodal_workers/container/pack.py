"""A pack at work: its inputs run one after another as if each had come alone.

A pack that takes long is taken apart, so that nothing waits in it while other containers are idle:
the thread that runs it stops between two inputs after 100 ms, and the release thread strikes what
is not started when a single input takes that long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from qmodal import context
from qmodal.store.entries import Claimed
from qmodal.wire.envelope import Envelope
from qmodal.wire.outcome import INLINE_BYTES, Outcome
from qmodal.wire.payload import dump_value
from qmodal_workers.container.invoke import Invoker, Result

# Values that nobody can change before the whole pack is written.
_IMMUTABLE = frozenset({NoneType, bool, int, float})
_TEXTS = frozenset({str, bytes})
SMALL = 1024
LONG_NS = 100_000_000
Advance = Callable[[int, int, int], None]


@dataclass(slots=True)
class Pack:
    """The inputs `begin` to `end` of one entry, by their place in it; `lock` guards both.

    `results` holds, from `begin` on, a plain value or an Outcome for each input that has ended.
    Times in monotonic nanoseconds, `size` in bytes.
    """

    claimed: Claimed
    envelope: Envelope
    kwargs: dict[str, Any]
    rows: list[list[Any]]  # positional arguments of each input
    end: int
    lock: threading.Lock
    begin: int = 0
    running: int = -1
    since: int = 0
    slowest: int = 0
    size: int = 0
    results: list[Any] = field(default_factory=list)
    is_kept: bool = False  # the entry stands for one input, the rest was split off

    def index_of(self, place: int) -> int:
        """The index in its call of the input at that place."""
        return self.claimed.first + place

    def next(self) -> bool:
        """Start the next input, if there is one."""
        with self.lock:
            place = self.running + 1
            if place >= self.end:
                return False
            self.running = place
            return True

    def leave(self, place: int) -> None:
        """Nothing but the input that runs is ours any more; its result may be there meanwhile."""
        del self.results[: place - self.begin]
        self.begin, self.end, self.is_kept = place, place + 1, True


def run(
    work: Pack, function: Callable[..., Any], invoker: Invoker, serial: int, advance: Advance
) -> int:
    """Run what can be run; the last serial that was used. Raises only Preempted."""
    clock, call, results = time.monotonic_ns, work.envelope.call, work.results
    rows, kwargs = work.rows, work.kwargs
    begun = work.since = clock()
    while work.next():
        serial += 1
        started, index = work.since, work.index_of(work.running)
        advance(serial, started, index)
        context.enter_input(call, index)
        try:
            value = invoker.call(function, rows[work.running], kwargs, serial)
            if type(value) in _IMMUTABLE or (type(value) in _TEXTS and len(value) < SMALL):
                results.append(value)
            else:
                results.append(_outcome(work, value, invoker))
        except BaseException as error:
            results.append(_ended(work, invoker.failure(error), invoker))
        work.since = clock()
        work.slowest = max(work.slowest, work.since - started)
        if work.since - begun > LONG_NS or work.size > INLINE_BYTES or invoker.was_cancelled:
            break
    return serial


def _outcome(work: Pack, value: Any, invoker: Invoker) -> Outcome:
    form, content = dump_value(value, plain_only=invoker.plain_only)
    return _ended(work, ("value", form, content), invoker)


def _ended(work: Pack, result: Result, invoker: Invoker) -> Outcome:
    work.size += len(result[2])
    took = time.monotonic_ns() - work.since
    began = (time.time_ns() - took) // 1_000_000
    return Outcome(*result, invoker.container, began, took // 1000)
