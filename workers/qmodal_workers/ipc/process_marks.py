"""Process marks: say to which container a process belongs, whatever it and its parents have become.

A mark is inherited and nobody removes it. A process can leave its parent, group, session and environment behind. A resource limit stays
through fork and exec. RLIMIT_RTTIME (microseconds) is about real-time scheduled processes only, and
a mark is so large, 146 000 years, that it limits nothing. Where the system has no such limit, or does not
let us set it, there are no marks. Only the soft limit is used: a job may itself run a worker.
"""

from __future__ import annotations

import itertools
import os
import resource
import secrets
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_SIGNATURE = 1 << 62
_SERIAL_BITS = 32
_SERIALS = (1 << _SERIAL_BITS) - 1
RESCAN_SECONDS = 0.005
ProcessMark = int


class ProcessMarks:
    """The marks that one worker gives out; 0 is none."""

    def __init__(self) -> None:
        self._owner = _SIGNATURE | secrets.randbits(62 - _SERIAL_BITS) << _SERIAL_BITS
        self._serials = itertools.count(1)

    def new(self) -> ProcessMark:
        """A mark that no process has yet."""
        return self._owner | next(self._serials) & _SERIALS

    def is_ours(self, mark: ProcessMark) -> bool:
        """Whether it is one that `new` has given out."""
        return mark & ~_SERIALS == self._owner

    def end_all(self, *, seconds: float = 5.0) -> None:
        """Kill every process that has one of these marks, until none is left or the time is over.

        Again and again: a process that forks may have a child that was not there at the last look.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            living = [pid for pid in _all_pids() if self.is_ours(mark_of(pid)) and _lives(pid)]
            if not living:
                return
            end(living)
            time.sleep(RESCAN_SECONDS)


def mark_process(mark: ProcessMark) -> None:
    """Mark this process and all that it will start."""
    if mark and sys.platform == "linux":
        with suppress(ValueError, OSError):
            _, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
            resource.setrlimit(resource.RLIMIT_RTTIME, (mark, hard))


def mark_of(pid: int) -> ProcessMark:
    """The mark of a process; 0 if it has none, or is gone."""
    if sys.platform == "linux":
        with suppress(OSError):
            return max(0, resource.prlimit(pid, resource.RLIMIT_RTTIME)[0])
    return 0


def end(pids: Iterable[int]) -> None:
    """Kill them; one that is gone, or another user's, is no error."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _all_pids() -> list[int]:
    with suppress(OSError):
        return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal()]
    return []


def _lives(pid: int) -> bool:
    """Not gone, nor a zombie that somebody has not collected."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")
