"""What the tests of packs run; see tests/integration/packs/test_packs.py."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Any

import qmodal

app = qmodal.App("packs")


@app.function(max_containers=2)
def echo(x: Any) -> Any:
    return x


@app.function(max_containers=2)
def name_of(_x: int) -> tuple[str | None, str | None]:
    return qmodal.current_input_id(), qmodal.current_function_call_id()


@app.function(max_containers=2)
def odd_fails(x: int) -> int:
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x


@app.function(max_containers=2, retries=qmodal.Retries(max_retries=2, initial_delay=0.0))
def third_time(path: str, x: int) -> int:
    note(path, x)
    if x % 50 == 7 and lines(path).count(x) < 3:
        raise RuntimeError("not yet")
    return x


@app.function(max_containers=2)
def waits_for(path: str, x: int) -> int:
    """Input 300 waits until somebody says that it saw the others."""
    while x == 300 and not Path(path).exists():
        time.sleep(0.01)
    return x


@app.function(max_containers=2)
def dies_once(path: str, x: int) -> int:
    if x == 300 and not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x


@app.function(max_containers=2)
def poison(x: int) -> int:
    if x == 300:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


@app.function(max_containers=2, timeout=1)
def overruns(how: str, x: int) -> int:
    if x == 300 and how == "python":
        time.sleep(60)
    if x == 300 and how == "c":
        ctypes.PyDLL(None).sleep(60)  # holds the interpreter lock, so no exception gets in
    return x


@app.function(max_containers=1)
def interrupts_itself(path: str, x: int) -> int:
    if x == 300 and not Path(path).exists():
        Path(path).touch()
        raise KeyboardInterrupt
    return x


@app.function(max_containers=2)
def slow_at_the_end(x: int) -> tuple[int, int]:
    time.sleep(0.03 if x >= 300 else 0)
    return x, os.getpid()


@app.function(max_containers=1)
def grows(shared: int) -> list[int]:
    kept.append(shared)
    return kept


@app.function(max_containers=2, delivery="at_most_once")
def once(x: int) -> int:
    return x


kept: list[int] = []


def note(path: str, x: int) -> None:
    """A line of its own, in one write."""
    with Path(path).open("a") as file:
        file.write(f"{x}\n")


def lines(path: str) -> list[int]:
    return [int(line) for line in Path(path).read_text().split()]
