"""Processes as Linux shows them, and the workers that a subject's commands start."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.shape import Commands

MEBI = 1 << 20


def children(pid: int) -> list[int]:
    """The direct children of a process."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, file.read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    """Everything below a process, parents first."""
    found: list[int] = []
    waiting = children(pid)
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += children(one)
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU that the living threads of these processes have used, to the ns."""
    total = 0
    for pid in pids:
        for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(file.read_text().split()[0])
    return total / 1e9


def memory(pid: int) -> dict[str, float]:
    """MiB of one process by the names of `smaps_rollup`; empty where there is no such file."""
    found: dict[str, float] = {}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, size, *_ = line.replace(":", " ").split()
            found[name] = int(size) * 1024 / MEBI
    return found


def sockets(pid: int) -> int:
    """How many sockets a process has open; 0 where /proc does not say."""
    found = 0
    for file in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            found += str(file.readlink()).startswith("socket:")
    return found


def private(pid: int) -> float:
    """MiB that would come free if the process ended: what it shares with a parent is not in it."""
    found = memory(pid)
    return found.get("Private_Clean", 0.0) + found.get("Private_Dirty", 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One process: what it is for, and its MiB."""

    role: str
    pss: float
    uss: float


def rows(pids: Sequence[int], container: int = 0) -> list[Row]:
    """The living ones among the processes, in their order."""
    return [
        Row(role=role, pss=found["Pss"], uss=private(pid))
        for pid, role in _roles(pids, container)
        if (found := memory(pid))
    ]


def _roles(pids: Sequence[int], container: int) -> Iterator[tuple[int, str]]:
    """Each with its role: the zygote is the first child of a worker, and templates are the others."""
    below: dict[int, str] = {}
    for pid in pids:
        role = below.get(pid) or _named(pid)
        if role == "worker":
            names = ("zygote" if number == 0 else "template" for number in range(1000))
            below.update(zip(sorted(children(pid)), names, strict=False))
            below[container] = "container"
        yield pid, role


def _named(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return "gone"
    for role in ("worker", "autoscaler", "up"):
        if role in words:
            return role
    return "supervisor" if any("supervisor" in word for word in words) else "server"


class Crew:
    """The workers of one subject, as processes of this one."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start all of them."""
        self._processes += [self._spawn(command) for command in self._commands]

    def start_again(self) -> None:
        """Put a new one in the place of each that has ended, as a supervisor would at once."""
        for number, process in enumerate(self._processes):
            if process.poll() is not None:
                self._processes[number] = self._spawn(self._commands[number])

    def pids(self) -> list[int]:
        """The process of each command, in their order."""
        return [process.pid for process in self._processes]

    def stop(self) -> None:
        """End all of them and what they have started: first by asking, then with SIGKILL."""
        for process in self._processes:
            process.terminate()
        below = [pid for process in self._processes for pid in descendants(process.pid)]
        for process in self._processes:
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._processes.clear()

    def _spawn(self, command: Iterable[str]) -> subprocess.Popen[bytes]:
        # They must not write into this process's standard output, which carries the figures.
        return subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=2, stderr=2, cwd=tempfile.gettempdir()
        )
