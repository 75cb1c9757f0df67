"""What processes take, as Linux says: processor time, and the memory that would be free without them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_KIBIBYTE = 1024
# Of a process with more threads these are asked for how long they have waited.
_MOST_THREADS = 64
# A thread that computes runs for longer than this before another one gets its processor. One that only wakes up now and
# then waits for a processor each time, too: with many of those a busy machine would make them look like work.
_SHORTEST_SLICE_NS = 500_000
IS_KNOWN = sys.platform == "linux"


class Resident(NamedTuple):
    """Resident bytes of a process without the cache of files: now, and the most there were, with what it shares."""

    now: int
    peak: int


def cpu_seconds(pids: Iterable[int]) -> float:
    """Seconds of a processor that the processes have wanted: those that they got, and those for which they waited for one.

    What they got alone says too little where many share few processors: the more there are, the less each seems to need.
    Those of children that have ended and were waited for count without their waits.
    """
    ticks, waited = 0, 0
    for pid in pids:
        with suppress(OSError, ValueError, IndexError):
            # Behind the name, which may hold anything: utime, stime, and both of its children.
            fields = _read(pid, "stat").rpartition(b")")[2].split()
            ticks += sum(map(int, fields[11:15]))
            waited += _waited(pid)
    return ticks / _TICKS + waited / 1e9


def _waited(pid: int) -> int:
    """Nanoseconds for which threads of the process that live and compute had no processor; 0 where nobody counts."""
    waited = 0
    for thread in islice(Path(f"/proc/{pid}/task").iterdir(), _MOST_THREADS):
        with suppress(OSError, ValueError, IndexError):
            ran, waits, slices = map(int, (thread / "schedstat").read_bytes().split())
            if ran >= slices * _SHORTEST_SLICE_NS:
                waited += waits
    return waited


def anonymous(pids: Iterable[int]) -> int:
    """Resident bytes of the processes that are no cache of files; what they share by a fork counts for each. Cheap."""
    pages = 0
    for pid in pids:
        with suppress(OSError, ValueError, IndexError):
            _, resident, shared, *_ = _read(pid, "statm").split()
            pages += max(0, int(resident) - int(shared))
    return pages * _PAGE


def resident(pid: int) -> Resident:
    """Resident memory of the process now and at its peak, shared memory included; nothing if it is gone."""
    found = _fields(pid, "status", (b"RssAnon:", b"RssShmem:", b"VmRSS:", b"VmHWM:"))
    now = found.get(b"RssAnon:", 0) + found.get(b"RssShmem:", 0)
    grown = max(0, found.get(b"VmHWM:", 0) - found.get(b"VmRSS:", 0))
    return Resident(now, now + grown)


def private(pid: int) -> int:
    """Bytes that the process shares with no other; takes a millisecond for each 100 MB of it."""
    found = _fields(pid, "smaps_rollup", (b"Private_Dirty:", b"SwapPss:"))
    return sum(found.values())


def proportional(pids: Iterable[int]) -> int:
    """Bytes of the processes, a page that n processes have counted as a nth; as slow as `private` for each of them."""
    return sum(
        sum(_fields(pid, "smaps_rollup", (b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:")).values())
        for pid in pids
    )


def _fields(pid: int, file: str, names: tuple[bytes, ...]) -> dict[bytes, int]:
    """The fields of these names, in bytes; none of a process that is gone, or not ours to look at."""
    with suppress(OSError, ValueError, IndexError):
        rows = (line.split() for line in _read(pid, file).splitlines())
        return {row[0]: int(row[1]) * _KIBIBYTE for row in rows if row and row[0] in names}
    return {}


def _read(pid: int, file: str) -> bytes:
    return Path(f"/proc/{pid}/{file}").read_bytes()
