"""An app of generators; run by tests/integration/functions/test_generators.py."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import qmodal

app = qmodal.App("generators")


@app.function()
def square(x: int) -> int:
    return x * x


@app.function()
def count(n: int) -> Iterator[int]:
    yield from range(n)


@app.function()
async def acount(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i


@app.function(is_generator=True)
def declared(n: int, kind: str) -> Any:
    return {"iterator": iter(range(n)), "async": arange(n), "list": [*range(n)]}[kind]


def touch(path: str) -> None:
    Path(path).touch()


async def arange(n: int) -> AsyncIterator[int]:
    for i in range(n):
        await asyncio.sleep(0)
        yield i


@app.function()
def unexpected(kind: str) -> Any:
    return asyncio.sleep(0) if kind == "coroutine" else (n for n in range(3))


@app.function()
def in_turns(folder: str, n: int) -> Iterator[int]:
    """Goes on only when a file says that the last item has arrived."""
    for i in range(n):
        yield i
        while not Path(folder, str(i)).exists():
            time.sleep(0.001)


@app.function()
def note(path: str, n: int) -> Iterator[int]:
    """Leaves how far it has come in a file, and `done` behind it."""
    with Path(path).open("w") as file:
        for i in range(n):
            file.seek(0)  # the numbers only grow longer
            file.write(str(i))
            file.flush()
            yield i
    Path(path + ".done").touch()


@app.function()
def fail_after(n: int, kind: str) -> Iterator[Any]:
    yield from range(n)
    if kind == "exit":
        sys.exit(4)
    if kind == "unpicklable":
        yield sys._getframe()
    raise KeyError("no more")


@app.function()
def die(path: str, before: int, after: int) -> Iterator[int]:
    """Kills its container once, behind the first `before` items."""
    yield from range(before)
    if not Path(path).exists():
        Path(path).touch()
        os._exit(3)
    yield from range(before, after)


@app.function(timeout=1)
def too_long(n: int, path: str) -> Iterator[int]:
    try:
        yield from range(n)
        time.sleep(30)
    finally:
        Path(path).touch()


@app.function(timeout=1)
async def atoo_long(n: int, path: str) -> AsyncIterator[int]:
    try:
        for i in range(n):
            yield i
        await asyncio.sleep(30)
    finally:
        touch(path)


@app.function()
def doubled(n: int) -> Iterator[int]:
    for each in count.remote_gen(n):
        yield 2 * each


@app.function()
def interrupted(path: str) -> Iterator[int]:
    yield 0
    if not Path(path).exists():
        Path(path).touch()
        raise KeyboardInterrupt
    yield 1


@app.function()
def identify(path: str, n: int = 0) -> Iterator[Any]:
    try:
        yield qmodal.current_function_call_id()
        yield from range(n)
        time.sleep(30)
    finally:
        Path(path).touch()


@app.function()
def blobs(n: int, size: int) -> Iterator[bytes]:
    for i in range(n):
        yield bytes([i]) * size


@app.cls()
class Counter:
    step: int = qmodal.parameter()

    @qmodal.method()
    def up(self, n: int) -> Iterator[int]:
        yield from range(0, n * self.step, self.step)

    @qmodal.method()
    async def aup(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i * self.step

    @qmodal.method(is_generator=True)
    def declared(self, n: int) -> Any:
        return map(self.step.__mul__, range(n))

    @qmodal.method()
    def times(self, n: int) -> int:
        return n * self.step
