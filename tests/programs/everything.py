"""An app with one of everything that calls can do; run by tests/integration/functions/test_calls.py."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import qmodal

app = qmodal.App("everything")


class OddError(Exception):
    """Raised by `fail`."""


class StubbornError(Exception):
    """Cannot be rebuilt from its arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(one)


@app.function()
def square(x: int) -> int:
    return x * x


@app.function()
def whoami() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "input": qmodal.current_input_id(),
        "call": qmodal.current_function_call_id(),
        "local": qmodal.is_local(),
        "ppid": os.getppid(),
    }


@app.function()
def echo(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


@app.function()
def fail(text: str) -> None:
    raise OddError(text)


@app.function()
def fail_stubborn() -> None:
    raise StubbornError(1, 2)


@app.function()
def leave(status: int) -> None:
    sys.exit(status)


@app.function()
def unpicklable() -> Any:
    return sys._getframe()


@app.function()
async def add_slowly(x: int, y: int) -> int:
    await asyncio.sleep(0.01)
    return x + y


@app.function(timeout=1)
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.function(timeout=1)
async def asleep(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@app.function(max_containers=1)
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.function(max_containers=1)
def hold(path: str, *_: Any) -> str:
    """Runs until that file is there."""
    while not Path(path).exists():
        time.sleep(0.005)
    return path


@app.function(retries=2)
def succeed_at(path: str, attempt: int) -> int:
    with Path(path).open("a") as file:
        file.write("x")
    count = Path(path).stat().st_size
    if count < attempt:
        raise OddError(f"attempt {count}")
    return count


@app.function()
def crash_once(path: str) -> str:
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), 9)
    return "survived"


@app.function()
def crash() -> None:
    os._exit(3)


@app.function()
def call_on(handle: Any, x: int) -> Any:
    return handle.remote(x)


@app.function()
def counted(n: int) -> Any:
    yield from range(n)


@app.function()
def talk(text: str) -> None:
    print(text)
    print(text.upper(), file=sys.stderr)


@app.cls()
class Model:
    name: str = qmodal.parameter()
    size: int = qmodal.parameter(default=2)

    @qmodal.enter()
    def load(self) -> None:
        self.loads = [self.name] * self.size

    @qmodal.method()
    def describe(self) -> tuple[str, int, int]:
        return self.name, len(self.loads), os.getpid()

    @qmodal.method()
    def through_self(self) -> Any:
        own: Any = self.describe
        return own.remote()


@app.cls()
class Older:
    def __init__(self, foo: Any, bar: float = 1.5) -> None:
        self.foo, self.bar = foo, bar

    @qmodal.method()
    def show(self) -> Any:
        return self.foo, self.bar


LOCK = threading.Lock()


@app.cls()
class Slotted:
    __slots__ = ("lock", "size")

    def __init__(self, size: int, lock: Any = LOCK) -> None:
        self.size, self.lock = size, lock

    @qmodal.method()
    def through_self(self) -> Any:
        own: Any = self.describe
        return own.remote()

    @qmodal.method()
    def describe(self) -> tuple[int, bool]:
        return self.size, self.lock is LOCK


@app.cls()
@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    size: int = 1
    tags: list[str] = dataclasses.field(default_factory=list)

    @qmodal.method()
    def values(self) -> tuple[int, list[str]]:
        return self.size, self.tags


@app.cls()
class Broken:
    @qmodal.enter()
    def load(self) -> None:
        raise OddError("the model file is missing")

    @qmodal.method()
    def run(self) -> None:
        return None
