"""The functions that all subjects run, by name in `TASKS`."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What each of many inputs at once waits for, and what a batch takes.
NAP_SECONDS = 0.05
BATCH_SECONDS, BATCH_SIZE = 0.005, 32
# A sleep ends up to 0.1 ms late: the rest of the time is waited for awake.
AWAKE_SECONDS = 0.0003


def echo(value: Any) -> Any:
    """What it was given: the no-op, and the echo of large values."""
    return value


def pause(seconds: float) -> float:
    """Takes so long by the clock, to some µs; returns when it ended (seconds since 1970)."""
    ends = time.perf_counter() + seconds
    if seconds > AWAKE_SECONDS:
        time.sleep(seconds - AWAKE_SECONDS)
    while time.perf_counter() < ends:
        pass
    return time.time()


async def nap(value: Any) -> Any:
    """What it was given, after a while in which it needs no processor."""
    await asyncio.sleep(NAP_SECONDS)
    return value


async def finished(returned: Any) -> Any:
    """What one of the functions has returned, once it is there."""
    return await returned if inspect.iscoroutine(returned) else returned


def whoami(seconds: float) -> int:
    """The process that runs it, after a while in which others can take the next one."""
    time.sleep(seconds)
    return os.getpid()


def mark(path: str) -> int:
    """Three seconds between two lines in a file: `start` and `end`, each with time and process."""
    _note(path, "start")
    time.sleep(3.0)
    _note(path, "end")
    return 42


def _note(path: str, word: str) -> None:
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{word} {time.time()} {os.getpid()}\n")


TASKS: dict[str, Callable[[Any], Any]] = {
    "echo": echo,
    "pause": pause,
    "nap": nap,
    "whoami": whoami,
    "mark": mark,
}
