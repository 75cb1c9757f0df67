"""An app whose calls are made in eager mode and on a stack: both have to say the same."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import qmodal

app = qmodal.App("eager-or-not")
VARIABLE = ContextVar("VARIABLE", default="none")


class OwnError(Exception):
    """An error of the program."""


@app.function()
def add(x: int, y: int = 10) -> int:
    return x + y


@app.function()
def appended(values: list[Any]) -> list[Any]:
    values.append("here")
    return values


@app.function()
async def later(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


@app.function()
def fails(x: int) -> int:
    raise OwnError(f"no {x}")


@app.function()
def odd_fails(x: int) -> int:
    if x % 2:
        raise OwnError(f"no {x}")
    return x


@app.function(retries=2)
def third_time(counter: str) -> int:
    path = Path(counter)
    tries = int(path.read_text()) + 1
    path.write_text(str(tries))
    if tries < 3:
        raise OwnError(f"try {tries}")
    return tries


@app.function()
def unpicklable() -> Any:
    return threading.Lock()


@app.function()
def half_done() -> Any:
    return (x for x in range(3))


@app.function()
def lines(n: int) -> Iterator[int]:
    yield from range(n)
    if n == 3:
        raise OwnError("after three")


@app.function()
async def async_lines(n: int) -> AsyncIterator[int]:
    for x in range(n):
        await asyncio.sleep(0)
        yield x


@app.function()
def down(n: int) -> int:
    return 0 if n == 0 else 1 + int(down.remote(n - 1))


@app.function()
def through(function: Any, x: int) -> Any:
    return function.remote(x)


@app.function()
def ids() -> tuple[bool, bool]:
    return qmodal.is_local(), qmodal.current_function_call_id() is None


@app.function()
def variable() -> str:
    return VARIABLE.get()


@app.function(retries=1)
def twice() -> None:
    raise OwnError("again")


@app.function()
@qmodal.batched(max_batch_size=4, wait_ms=1)
def doubled(xs: list[int]) -> list[int]:
    return [2 * x for x in xs]


@app.cls()
class Greeter:
    language: str = qmodal.parameter()
    loud: bool = qmodal.parameter(default=False)

    @qmodal.enter()
    def start(self) -> None:
        self.greeting = {"en": "hello", "fr": "bonjour"}[self.language]
        self.count = 0

    @qmodal.method()
    def greet(self, name: str) -> str:
        self.count += 1
        text = f"{self.greeting} {name} {self.count}"
        return text.upper() if self.loud else text

    @qmodal.method()
    def around(self, name: str) -> str:
        return self.count_only.remote(name)

    @qmodal.method()
    def count_only(self, name: str) -> str:
        return f"{name} in {self.language}"

    @qmodal.exit()
    def stop(self) -> None:
        if self.language == "fr":
            print("au revoir")


@app.cls()
class Broken:
    @qmodal.enter()
    def start(self) -> None:
        raise OwnError("no model")

    @qmodal.method()
    def run(self) -> int:
        return 1
