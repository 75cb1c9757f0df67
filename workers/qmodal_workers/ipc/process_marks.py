"""Process marks: a number that all descendants of a process inherit, and that says whose they are.

A process can leave its parent, group, session and environment behind, but its resource limits stay
through fork and exec. So the mark is the soft limit RLIMIT_RTTIME (microseconds), which concerns
real-time scheduled processes only; marks are so large, 146 000 years, that they limit nothing. Where
the system has no such limit, or does not let us set it, there are no marks. The hard limit is left
alone, because a job may itself run a worker, which gives out marks of its own.
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
    """Gives out the marks of one worker; the mark 0 means that there is none."""

    def __init__(self) -> None:
        self._owner = _SIGNATURE | secrets.randbits(62 - _SERIAL_BITS) << _SERIAL_BITS
        self._serials = itertools.count(1)

    def new(self) -> ProcessMark:
        """A mark that no process has yet."""
        return self._owner | next(self._serials) & _SERIALS

    def is_ours(self, mark: ProcessMark) -> bool:
        """Whether the mark was given out by `new`."""
        return mark & ~_SERIALS == self._owner

    def end_all(self, *, seconds: float = 5.0) -> None:
        """SIGKILL every process that has one of these marks, until none lives or `seconds` are over.

        Scans repeatedly, because a process that forks may have a child that the last scan has missed.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            living = [pid for pid in _all_pids() if self.is_ours(mark_of(pid)) and _lives(pid)]
            if not living:
                return
            _kill(living)
            time.sleep(RESCAN_SECONDS)


def mark_process(mark: ProcessMark) -> None:
    """Mark this process and all that it will start, if the system can."""
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


def is_marked(pid: int) -> bool:
    """Whether a container or a template has started it, of whichever worker of this machine."""
    return mark_of(pid) & _SIGNATURE != 0


def _kill(pids: Iterable[int]) -> None:
    """SIGKILL processes; one that is gone, or another user's, is no error."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _all_pids() -> list[int]:
    with suppress(OSError):
        return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal()]
    return []


def _lives(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")
