"""Whether a process that has imported user code may be forked."""

from __future__ import annotations

import _thread
import asyncio
import os
import re
import select
import socket
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Parts of the file names of libraries that stop their threads before a fork, or start them again after it.
FORK_SAFE = ("openblas", "libgomp", "libomp", "libiomp", "mkl_", "libblis")

# The libraries through which programs ask the driver; what only links CUDA has not loaded them yet.
ASKS_FOR_GPUS = ("libcuda.so", "libnvidia-ml.so")

# Variables that a process reads only when it starts, so that setting them later has no effect.
_STARTUP_VARIABLES = re.compile(
    "LD_.*|LANG|LC_.*|GLIBC_TUNABLES|MALLOC_.*"
    "|PYTHON(PATH|HASHSEED|WARNINGS|OPTIMIZE|DEVMODE|FAULTHANDLER|MALLOC|TRACEMALLOC|UTF8|INTMAXSTRDIGITS)"
)


# Functions that gevent and eventlet replace to make a process cooperative. The template's own calls of
# them would then wait in a loop that it does not run, and its forks would share that loop.
_REPLACEABLE = {
    os: ("fork", "waitpid", "read"),
    socket: ("socket",),
    select: ("select", "poll", "epoll"),
    threading: ("Lock", "Thread"),
    _thread: ("start_new_thread", "allocate_lock"),
    time: ("sleep",),
}


def _in_place() -> dict[str, object]:
    """The functions that are in place now, by the names of the replaceable ones."""
    return {
        f"{module.__name__}.{name}": getattr(module, name, None)
        for module, names in _REPLACEABLE.items()
        for name in names
    }


_ORIGINAL = _in_place()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFacts:
    """What decides whether a process may be forked; `pools`: loaded libraries whose threads survive a fork."""

    threads: tuple[str, ...] = ()  # Python threads beyond the main one
    replaced: tuple[str, ...] = ()  # replaceable functions that user code has replaced
    is_looping: bool = False
    has_cuda: bool = False
    native_threads: int = 0  # beyond the main one and Python's own
    pools: int = 0
    cpus: int = 1


def why_unsafe(facts: ProcessFacts, what: str = "importing it") -> str | None:
    """A reason against forking after `what` was done; None if there is none."""
    if facts.threads:
        return f"{what} started threads ({', '.join(facts.threads[:3])})"
    if facts.replaced:
        return f"{what} replaced {', '.join(facts.replaced[:3])}, as gevent does"
    if facts.is_looping:
        return f"{what} left an event loop running"
    if facts.has_cuda:
        return f"{what} initialised CUDA"
    surplus = facts.native_threads - facts.pools * max(1, facts.cpus - 1)
    if surplus > 0:
        return f"{what} started {surplus} threads of a library that may not survive a fork"
    return None


def why_too_late(environ: Iterable[str]) -> str | None:
    """Why these variables cannot be set in a running process; None if they can."""
    names = startup_variables(environ)
    return f"a process reads {', '.join(names)} only when it starts" if names else None


def startup_variables(environ: Iterable[str]) -> list[str]:
    """Those of the variables that a process reads only when it starts."""
    return sorted(name for name in environ if _STARTUP_VARIABLES.fullmatch(name))


def observe() -> ProcessFacts:
    """The facts about this process."""
    living = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    return ProcessFacts(
        threads=tuple(thread.name for thread in living),
        replaced=tuple(name for name, now in _in_place().items() if now is not _ORIGINAL[name]),
        is_looping=asyncio._get_running_loop() is not None,
        has_cuda=_has_cuda(),
        native_threads=max(0, _threads() - 1 - len(living)),
        pools=count_pools(_mapped()),
        cpus=len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
    )


def count_pools(mapped: Iterable[str]) -> int:
    """How many different fork-safe libraries are among the mapped files."""
    names = {Path(path).name for path in mapped}
    return sum(any(known in name for known in FORK_SAFE) for name in names)


def looks_for_gpus() -> bool:
    """Whether this process has asked which GPUs there are: a template sees none, so that answer holds for no container."""
    names = {Path(path).name for path in _mapped()}
    return any(name.startswith(ASKS_FOR_GPUS) for name in names)


def _threads() -> int:
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:
        return threading.active_count()


def _mapped() -> list[str]:
    try:
        lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [line.rpartition(" ")[2] for line in lines if ".so" in line]


def _has_cuda() -> bool:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return True
    try:
        opened = [fd.readlink() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    except OSError:
        return False
    # Not nvidiactl, which is opened by counting the devices.
    return any(path.name[:6] == "nvidia" and path.name[6:].isdigit() for path in opened)
