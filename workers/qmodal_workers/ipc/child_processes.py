"""The worker's child processes: exit statuses, zombies, orphans, and kills by the out-of-memory killer."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from qmodal_workers.ipc.processes import CONTAINER_VARIABLE, exists

_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> bool:
    """Make this process the parent of orphaned descendants; False where the system cannot do that."""
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def own_children() -> set[int]:
    """The pids of all direct children, zombies included."""
    return _children(os.getpid())


def _children(pid: int) -> set[int]:
    if not _are_listed():
        # Not for every worker: it takes a mebibyte, and Linux itself says all that we ask.
        import psutil

        with contextlib.suppress(psutil.Error):
            return {child.pid for child in psutil.Process(pid).children()}
        return set()
    found: set[int] = set()
    with contextlib.suppress(OSError):  # it may end meanwhile, and so may a thread of it
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found.update(map(int, (thread / "children").read_text().split()))
    return found


@cache
def _are_listed() -> bool:
    """Whether the kernel lists the children of a process; some are built without that."""
    return Path("/proc/thread-self/children").exists()


def is_child(pid: int) -> bool:
    """Whether it is our child now, a zombie included."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def exit_status(pid: int) -> int | None:
    """The exit status of a child as `subprocess` gives it (-9: killed by signal 9); None while it lives.

    The zombie is not reaped, so that its pid, which also names its process group, is not used again.
    """
    try:
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        # It is not ours yet, while its middle parent lives; or it is gone, nobody knows how.
        return None if exists(pid) else 1
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def is_stopped(pid: int) -> bool:
    """Whether a child is stopped by SIGSTOP; True, too, for a process that is no child of ours."""
    with contextlib.suppress(ChildProcessError):
        options = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, pid, options) is not None
    return True


def collect(pid: int) -> None:
    """Reap the zombie, which frees its pid."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def end_session(pid: int) -> None:
    """SIGKILL the process group of a container that has ended and was not reaped yet."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def end_orphans(known: set[int], is_left: Callable[[int], bool]) -> None:
    """SIGKILL each child outside `known` for which `is_left` is true, and its descendants."""
    for orphan in own_children() - known:
        with contextlib.suppress(OSError):
            if is_left(orphan):
                for pid in reversed(family(orphan)):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


def belongs(orphan: int, pid: int, container: str) -> bool:
    """Whether an orphan without a mark is the container's, by its session (`pid`) or its environment."""
    if os.getsid(orphan) == pid:
        return True
    environ = Path(f"/proc/{orphan}/environ").read_bytes().split(b"\0")
    return f"{CONTAINER_VARIABLE}={container}".encode() in environ


def family(pid: int, *, most: int | None = None) -> list[int]:
    """A process and its descendants, parents before their children; of many only about `most`."""
    found = [pid]
    for each in found:
        if most is not None and len(found) >= most:
            break
        found += _children(each) - set(found)
    return found


class ZombieCollector:
    """Reaps inherited zombies, but no child whose exit status another part of the worker waits for."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def collect(self, known: set[int]) -> None:
        """Reap children that were outside `known` last time, too: the pid of a fork may be announced late."""
        strangers = own_children() - known
        for pid in strangers & self._seen:
            collect(pid)
        self._seen = strangers


class OomKills:
    """The kernel's count of processes that its out-of-memory killer has ended, in the first of some files that has it."""

    def __init__(self, places: Sequence[Path] = (Path("/proc/vmstat"),)) -> None:
        self._places = places
        self._count = self._read()

    def have_grown(self) -> bool:
        """Whether the count has grown since it was asked last."""
        before, self._count = self._count, self._read()
        return self._count > before

    def _read(self) -> int:
        for place in self._places:
            with contextlib.suppress(OSError):
                for line in place.read_text().splitlines():
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        return 0
