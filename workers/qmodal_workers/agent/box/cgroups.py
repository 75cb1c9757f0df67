"""Control groups of version 2 for containers with limits, where this process may make some.

That is so in a systemd unit with `Delegate=yes`, for a user that was given its group, and in a container that may write to
its own. The worker then moves itself into a group below its own, as a group that others are below holds no processes.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from qmodal_workers.agent.box.machine import CGROUPS, own_group
from qmodal_workers.ipc.child_processes import family

WORKER_GROUP = "qmodal-worker"
CONTROLLERS = ("memory", "cpu")
PERIOD_US = 100_000
_DELEGATED = ("trusted.delegate", "user.delegate")


class Cgroups:
    """The groups of containers below `folder`; those that one worker process has made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def claim(cls) -> Cgroups | None:
        """Make this process's group one that others are below; None where that is not for us to do."""
        folder = own_group()
        if folder is None or not _is_ours(folder):
            return None
        leaf = folder / WORKER_GROUP
        inside: set[int] = set()
        try:
            offered = (folder / "cgroup.controllers").read_text().split()
            inside = {int(pid) for pid in (folder / "cgroup.procs").read_text().split()}
            if "memory" not in offered or not inside <= {*family(os.getpid())}:
                return None  # it would be of no use, or somebody else would have to move
            leaf.mkdir(exist_ok=True)
            _move(inside, leaf)
            wanted = " ".join(f"+{name}" for name in CONTROLLERS if name in offered)
            (folder / "cgroup.subtree_control").write_text(wanted)
        except OSError:
            with suppress(OSError):
                _move(inside, folder)
                leaf.rmdir()
            return None
        return cls(folder)

    def join(self, container: str, pid: int, *, memory: int, cpu: float) -> bool:
        """Put a process into a group with these limits (0: none); False if that did not work, so nothing limits it."""
        group = self._folder / container
        try:
            group.mkdir()
            if memory:
                (group / "memory.max").write_text(str(memory))
                (group / "memory.oom.group").write_text("1")
                with suppress(OSError):  # without swap there is no such file
                    (group / "memory.swap.max").write_text("0")
            if cpu:
                quota = max(1000, round(cpu * PERIOD_US))
                (group / "cpu.max").write_text(f"{quota} {PERIOD_US}")
            (group / "cgroup.procs").write_text(str(pid))
        except OSError:
            with suppress(OSError):
                group.rmdir()
            return False
        return True

    def leave(self, container: str) -> bool:
        """Remove the group of a container that has ended; whether the kernel has ended something of it for its memory."""
        group = self._folder / container
        events = ""
        with suppress(OSError):
            events = (group / "memory.events").read_text()
        with suppress(OSError):
            group.rmdir()
        counts = dict(line.split() for line in events.splitlines())
        return counts.get("oom_kill", "0") != "0"


def _is_ours(folder: Path) -> bool:
    """Whether the group was given to us: root may write everywhere, and would disturb who manages the others."""
    if not (os.access(folder, os.W_OK) and os.access(folder / "cgroup.subtree_control", os.W_OK)):
        return False
    if os.geteuid() != 0 or folder == CGROUPS:
        return True  # we were made its owner; or it is the top of all that this (software) container sees
    for name in _DELEGATED:
        with suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    return False


def _move(pids: set[int], group: Path) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            (group / "cgroup.procs").write_text(str(pid))
