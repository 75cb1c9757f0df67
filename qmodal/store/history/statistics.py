"""Statistics of functions: counts and times of their inputs and containers, to which every box adds what it has counted."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from qmodal.store import reading
from qmodal.store.keys import Keys
from qmodal.transport.operation import Op, ask_each, ask_one
from qmodal.transport.script import script

# Upper ends of the buckets of all histograms, in microseconds; one more bucket has what took longer.
BOUNDS = (
    *(1_000, 5_000, 10_000, 50_000, 100_000, 500_000),
    *(1_000_000, 5_000_000, 10_000_000, 60_000_000, 300_000_000, 1_800_000_000),
)
BUCKETS = len(BOUNDS) + 1
# How inputs ended: as their outcome says, or `unprocessable`, which were set aside without a run, or `purged`, while
# they waited: their app was stopped, no container could be started, or a person wanted it.
OUTCOMES = ("value", "error", "timeout", "cancelled", "unstored", "lost", "unprocessable", "purged")
# How containers ended; `failed`: before they were ready.
ENDS = ("stopped", "failed", "killed", "crashed", "out_of_memory")
COUNTERS = (
    *OUTCOMES,
    "retries",  # further attempts that inputs were given after an error or a timeout
    "redeliveries",  # inputs that were taken back from containers that had died
    "starts",  # containers that got a process
    *(f"end:{how}" for how in ENDS),
    "alive",  # microseconds that containers had a process
    "busy",  # microseconds of these that at least one input ran
)
# Of times in microseconds: from submit to start, of running, of both together, and of a container's start.
HISTOGRAMS = ("wait", "run", "total", "start")
KEEP_STATISTICS_MS = 30 * 24 * 3600 * 1000
# A box repeats what it could not add for less than this.
KEEP_COUNTED_MS = 24 * 3600 * 1000
# Functions that are kept; beyond them those go that have changed least lately.
MOST_SERIES = 2000
# No box adds more at once; a larger number is damage.
LARGEST_CHANGE = 1 << 52


class Series(NamedTuple):
    """A function by names that stay when its app is deployed again: what it has done is counted under them."""

    environment: str
    app: str
    function: str

    @property
    def name(self) -> str:
        """The three in one, as the index has them."""
        return "/".join(self)

    @classmethod
    def parse(cls, name: str) -> Series | None:
        """The series of that name; None if it is none."""
        parts = name.split("/", 2)
        return cls(*parts) if len(parts) == len(cls._fields) and all(parts) else None


Counts = Mapping[str, int]


def bucket_of(histogram: str, number: int) -> str:
    """The field of a bucket, by its number from the shortest times on."""
    return f"{histogram}:{number}"


def sum_of(histogram: str) -> str:
    """The field of the sum of all times of a histogram."""
    return f"{histogram}:sum"


def observed(histogram: str, microseconds: int) -> dict[str, int]:
    """What one more time adds to its histogram."""
    number = bisect_left(BOUNDS, microseconds)
    return {bucket_of(histogram, number): 1, sum_of(histogram): microseconds}


FIELDS = frozenset(
    (
        *COUNTERS,
        *(bucket_of(each, number) for each in HISTOGRAMS for number in range(BUCKETS)),
        *map(sum_of, HISTOGRAMS),
    )
)
_KNOWN = {name.encode(): name for name in FIELDS}


@dataclass(frozen=True, slots=True)
class Statistics:
    """Operations on statistics."""

    keys: Keys

    def add(self, counter: str, number: int, changes: Mapping[Series, Counts]) -> Op[bool]:
        """Add these changes, unless batch `number` of that counter was added before; returns whether it was now.

        So a batch whose answer was lost may be repeated. Batches of one counter are numbered from 1 on and
        come in order.
        """
        keys = self.keys
        parts: list[str | int] = []
        for series, counts in changes.items():
            parts += (series.name, len(counts))
            for field, amount in counts.items():
                parts += (field, amount)
        reply = yield from ask_one(
            *script("count").command(
                (keys.counted(counter), keys.statistics_index),
                (
                    *(number, KEEP_COUNTED_MS, KEEP_STATISTICS_MS, MOST_SERIES),
                    keys.statistics(""),
                ),
                more_keys=[keys.statistics(each.name) for each in changes],
                more=parts,
            )
        )
        return bool(reply)

    def series(self) -> Op[list[Series]]:
        """The functions that have statistics."""
        index = self.keys.statistics_index
        (members,) = yield from ask_each([(b"ZRANGE", index, 0, -1)])
        listed = members if reading.is_readable(members, index) else ()
        names = [reading.text(each, index) for each in listed]
        found = [Series.parse(name) for name in names if name is not None]
        return [each for each in found if each is not None]

    def read(self, wanted: Sequence[Series]) -> Op[dict[Series, dict[str, int]]]:
        """What was counted of these; functions without statistics, and fields that are none, are left out."""
        names = [self.keys.statistics(each.name) for each in wanted]
        replies = yield from ask_each((b"HGETALL", name) for name in names)
        return {
            series: counts
            for series, name, reply in zip(wanted, names, replies, strict=True)
            if reading.is_readable(reply, name) and (counts := _counts(reply))
        }


def _counts(reply: list[bytes]) -> dict[str, int]:
    # A scrape reads all fields of all functions, within milliseconds.
    fields = zip(map(_KNOWN.get, reply[::2]), reply[1::2], strict=True)
    return {
        name: int(value)
        for name, value in fields
        if name is not None and len(value) < 20 and value.isdigit()
    }
