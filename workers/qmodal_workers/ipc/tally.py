"""A container's tally: what it has counted of its inputs, in memory that its worker reads.

So nothing is lost with a container that is killed, and to count takes no command and no system call.
The words only grow, each is written atomically, and no two of them have to agree: the worker adds up
what has changed since its last reading.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left

from qmodal.store.history.statistics import (
    BOUNDS,
    BUCKETS,
    HISTOGRAMS,
    OUTCOMES,
    bucket_of,
    sum_of,
)

# Those that a container knows itself; `total` comes first: see `read`.
_HISTOGRAMS = ("total", "wait", "run")
assert set(_HISTOGRAMS) <= set(HISTOGRAMS)
_NAMES = (
    *(bucket_of(each, number) for each in _HISTOGRAMS for number in range(BUCKETS)),
    *map(sum_of, ("wait", "run")),
    # Beside `value`, which is the rest of all that have ended.
    *(outcome for outcome in OUTCOMES if outcome != "value"),
    "retries",
    "redeliveries",
    "busy",
    "since",  # of a container of several inputs: when it became busy, in monotonic ns; 0 if it is not
)
WORDS = len(_NAMES)
SIZE = 8 * WORDS
_TOTAL, _WAIT, _RUN = (_NAMES.index(bucket_of(each, 0)) for each in _HISTOGRAMS)
_WAIT_SUM, _RUN_SUM = _NAMES.index(sum_of("wait")), _NAMES.index(sum_of("run"))
_WORD = {name: number for number, name in enumerate(_NAMES)}
_BUSY, _SINCE = _WORD["busy"], _WORD["since"]
_TOTALS = range(_TOTAL, _TOTAL + BUCKETS)
# Outcomes that `ended` counts; what is lost or set aside has no run of its own that ends here.
_RAN = ("error", "timeout", "cancelled", "unstored")


class Tally:
    """Counts; the container's half is for any of its threads. Without memory of a record it counts for itself.

    Times in microseconds: `wait` from the submit to the start, `run` from there to the end.
    """

    __slots__ = ("_lock", "_words")

    def __init__(self, words: memoryview[int] | None = None) -> None:
        self._words: memoryview[int] | array[int] = (
            array("Q", bytes(SIZE)) if words is None else words
        )
        # The threads that run, settle and release add to the same words, which takes a read and a write.
        self._lock = threading.Lock()

    def ended(self, kind: str, wait: int, run: int, count: int = 1) -> None:
        """So many inputs have ended with an outcome of that kind, each after these times."""
        words = self._words
        if wait < 0:  # another machine's clock
            wait = 0
        try:
            with self._lock:
                if kind != "value":  # before the total, of which it is a part
                    words[_WORD[kind]] += count
                words[_TOTAL + bisect_left(BOUNDS, wait + run)] += count
                words[_WAIT + bisect_left(BOUNDS, wait)] += count
                words[_RUN + bisect_left(BOUNDS, run)] += count
                words[_WAIT_SUM] += wait * count
                words[_RUN_SUM] += run * count
        except (ValueError, OverflowError):  # only user code makes them that large
            return

    def retried(self, run: int, count: int = 1) -> None:
        """So many inputs have run for so long, and get another attempt."""
        words = self._words
        try:
            with self._lock:
                words[_WORD["retries"]] += count
                words[_RUN + bisect_left(BOUNDS, run)] += count
                words[_RUN_SUM] += run * count
        except (ValueError, OverflowError):
            return

    def add(self, name: str, count: int) -> None:
        """Add to a counter of that name."""
        try:
            with self._lock:
                self._words[_WORD[name]] += count
        except (ValueError, OverflowError):
            return

    def begin_busy(self, now: int) -> None:
        """A container of several inputs: from now on (monotonic ns) at least one runs."""
        self._words[_SINCE] = now

    def end_busy(self, now: int) -> None:
        """A container of several inputs: none runs any more."""
        since = self._words[_SINCE]
        self._words[_SINCE] = 0
        self.add("busy", max(0, now - since) // 1000)

    def read(self, now: int, age: int) -> dict[str, int]:
        """The worker: all that was counted so far, `busy` up to this moment, which the container may be.

        `now` in monotonic nanoseconds; `age`: for how many the input has run that runs alone.
        What is written meanwhile may be missing. As totals are read first, and written last, there
        are never more values than have ended.
        """
        words = list(self._words)
        found = dict(zip(_NAMES, words, strict=True))
        ended = sum(words[at] for at in _TOTALS)
        found["value"] = max(0, ended - sum(found[kind] for kind in _RAN))
        found[sum_of("total")] = found[sum_of("wait")] + found[sum_of("run")]
        since = found.pop("since")
        if since or found["busy"]:
            found["busy"] += max(0, now - since) // 1000 if since else 0
        else:
            found["busy"] = found[sum_of("run")] + age // 1000
        return found

    def close(self) -> None:
        """Let go of the memory of a record."""
        if isinstance(self._words, memoryview):
            self._words.release()
