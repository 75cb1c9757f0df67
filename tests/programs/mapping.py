"""What the tests of maps, calls and variants run; see tests/integration/functions/test_maps.py."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import qmodal

app = qmodal.App("mapping")


@app.function()
def double(x: int) -> int:
    return 2 * x


@app.function()
def add(x: int, y: int, plus: int = 0) -> int:
    return x + y + plus


@app.function(max_containers=1)
def noted(path: str, x: int, seconds: float = 0.004) -> int:
    with Path(path).open("a") as file:
        file.write(f"{x}\n")
    time.sleep(seconds)
    return x


@app.function(max_containers=2)
def wait_or_fail(path: str, x: int) -> int:
    if x == 0:
        raise KeyError("zero")
    with Path(path).open("a") as file:
        file.write(f"{x}\n")
    time.sleep(0.3)
    return x


@app.function()
def nap(seconds: float, started: str = "") -> tuple[float, int]:
    if started:
        Path(started).write_text(str(os.getpid()))
    time.sleep(seconds)
    return seconds, os.getpid()


@app.function()
def family(n: int) -> list[int]:
    child: Any = double
    return list(child.map(range(n)))


@app.function()
def spawned() -> str:
    child: Any = double
    call: str = child.spawn(4).object_id
    return call


@app.function()
def fails(x: int) -> None:
    raise ValueError(x)


@app.function()
def letters(n: int) -> Iterator[str]:
    yield from "abc"[:n]


@app.function()
def middle(n: int) -> int:
    child: Any = double
    total: int = sum(child.map(range(n))) + child.remote(n)
    return total


@app.function()
def delivered() -> int:
    """Makes calls of all kinds, and takes their results."""
    child: Any = middle
    failing: Any = fails
    items: Any = letters
    total: int = child.remote(2)
    for _ in failing.map(range(2), return_exceptions=True):
        continue
    with contextlib.suppress(ValueError):
        failing.remote(5)
    return total + len(list(items.remote_gen(3)))


@app.function(timeout=20, max_containers=3)
def place() -> tuple[int, str | None]:
    return os.getpid(), qmodal.current_function_call_id()


@app.cls()
class Box:
    size: int = qmodal.parameter(default=1)

    @qmodal.method()
    def pid(self) -> int:
        return os.getpid()

    @qmodal.method()
    def own_pool(self) -> str:
        """The pool that `self.pid` stands for in here."""
        own: Any = self.pid
        own.hydrate()
        name: str = own.object_id
        return name
