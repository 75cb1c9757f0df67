"""What a machine has for this process: processors and memory, within the limits of its control groups."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMORY_INFO = Path("/proc/meminfo")
# Version 1 writes a limit that is none as nearly so much.
NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class Machine:
    """Processors, of which a control group may grant a part, and `memory` in bytes."""

    cpus: float
    memory: int

    @property
    def processors(self) -> int:
        """How many programs run at once, at least one."""
        return max(1, round(self.cpus))


@dataclass(frozen=True, slots=True)
class _Group:
    """A control group that limits memory: the files with its limit, its use, and the cache that it gives back."""

    limit: Path
    used: Path
    stat: Path
    inactive: bytes

    def most(self) -> int | None:
        """Its limit in bytes; None if it has none."""
        found = _number(self.limit)
        return found if found is not None and found < NO_LIMIT else None

    def free(self) -> int | None:
        """What is left of its limit; None if it has none. The cache of files makes room when it is needed."""
        most, used = self.most(), _number(self.used)
        if most is None or used is None:
            return None
        return max(0, most - used + _field(self.stat, self.inactive))


def machine() -> Machine:
    """What there is now."""
    return Machine(cpus=_cpus(), memory=_memory())


def free_memory() -> int:
    """Bytes that programs may still take before the kernel ends some: of the machine, and of each control group."""
    free = [each for group in _groups() if (each := group.free()) is not None]
    available = _field(MEMORY_INFO, b"MemAvailable:") * 1024
    return min([available or _memory(), *free])


def out_of_memory_counts() -> list[Path]:
    """Where the kernel counts what it has ended for want of memory, of our own control group before all others."""
    two, one = own_group(), own_group("memory")
    found = [] if two is None else [two / "memory.events"]
    found += [] if one is None else [one / "memory.oom_control"]
    return [*found, Path("/proc/vmstat")]


def own_group(controller: str = "") -> Path | None:
    """The folder of this process's control group: of version 2, or of a controller of version 1; None without."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            if controller not in names.split(","):
                continue
            top = CGROUPS / controller if controller else CGROUPS
            if not controller and not (top / "cgroup.controllers").exists():
                return None
            inside = top / path.lstrip("/")
            # In a container the path may be the machine's, while what is mounted begins with our group.
            return inside if inside.exists() else top
    return None


def _cpus() -> float:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min([float(count or 1), *_quotas()])


def _quotas() -> Iterator[float]:
    """The processors that our control group and those above it grant."""
    for folder in _and_above(own_group()):
        with suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            yield int(quota) / int(period)  # "max" grants all: a ValueError
    for folder in _and_above(own_group("cpu")):
        quota_us, period_us = (
            _number(folder / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        )
        if quota_us is not None and period_us and quota_us > 0:
            yield quota_us / period_us


def _memory() -> int:
    total = _field(MEMORY_INFO, b"MemTotal:") * 1024
    if not total:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([total, *(most for group in _groups() if (most := group.most()) is not None)])


@cache
def _groups() -> tuple[_Group, ...]:
    """The control groups that may limit our memory; which ones these are stays the same."""
    if sys.platform != "linux":
        return ()
    two = (
        _Group(
            folder / "memory.max",
            folder / "memory.current",
            folder / "memory.stat",
            b"inactive_file",
        )
        for folder in _and_above(own_group())
    )
    one = (
        _Group(
            folder / "memory.limit_in_bytes",
            folder / "memory.usage_in_bytes",
            folder / "memory.stat",
            b"total_inactive_file",
        )
        for folder in _and_above(own_group("memory"))
    )
    return tuple(group for group in (*two, *one) if group.limit.exists())


def _and_above(folder: Path | None) -> Iterator[Path]:
    """A control group and those that it is in: each may have a limit."""
    while folder is not None and folder.is_relative_to(CGROUPS):
        yield folder
        folder = folder.parent


def _number(file: Path) -> int | None:
    with suppress(OSError, ValueError):
        return int(file.read_bytes())
    return None


def _field(file: Path, name: bytes) -> int:
    """The number behind a name at the beginning of a line; 0 if it is not there."""
    with suppress(OSError):
        for line in file.read_bytes().splitlines():
            words = line.split()
            if words and words[0] == name:
                return int(words[1])
    return 0
