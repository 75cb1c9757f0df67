"""Jobs whose arguments, results and exceptions resist being looked at, described, pickled and rebuilt."""

from __future__ import annotations

import asyncio
import io
import linecache
import os
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Never

import qmodal

app = qmodal.App("hostile")
ONCE = qmodal.Retries(max_retries=1, initial_delay=0.0, backoff_coefficient=1.0)
KINDS: dict[str, type[BaseException]] = {
    kind.__name__: kind
    for kind in (
        *(RuntimeError, RecursionError, SystemExit, KeyboardInterrupt, GeneratorExit),
        *(asyncio.CancelledError, StopIteration, StopAsyncIteration),
    )
}


class Rebuilt:
    """Raises where it is rebuilt: in a container, or at a caller."""

    def __init__(self, kind: str, *, in_container: bool) -> None:
        self.kind = kind
        self.in_container = in_container

    def __reduce__(self) -> Any:
        return rebuild, (self.kind, self.in_container)


def rebuild(kind: str, in_container: bool) -> Rebuilt:
    if in_container is not qmodal.is_local():
        raise KINDS[kind](kind)
    return Rebuilt(kind, in_container=in_container)


class RebuiltError(Exception):
    """An exception of that sort."""

    def __reduce__(self) -> Any:
        return rebuild, (self.args[0], False)


class Unpicklable:
    """Raises where it is pickled."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __reduce__(self) -> Never:
        raise KINDS[self.kind](self.kind)


class HostileError(Exception):
    """Raises when it is asked for anything."""

    def _fail(self, *_: object) -> Never:
        raise KINDS[self.args[0]]("about itself")

    __str__ = __repr__ = __reduce__ = __len__ = _fail
    __cause__ = __context__ = __notes__ = property(_fail)
    __class__ = property(_fail)

    def __getattr__(self, name: str) -> Never:
        self._fail()


class EndlessError(Exception):
    """Is caused by ever new ones."""

    @property
    def __cause__(self) -> BaseException | None:  # type: ignore[override]
        return EndlessError()


class HangingError(Exception):
    """Describes itself for ever."""

    def __str__(self) -> Never:
        while True:
            pass


class BrokenStream(io.StringIO):
    """What cannot be written to."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def _fail(self, *_: object) -> Never:
        raise KINDS[self.kind]("no output")

    write = flush = _fail


def returns_unpicklable(kind: str) -> Any:
    return Unpicklable(kind)


def raises_hostile(kind: str) -> Never:
    raise HostileError(kind)


def raises_unrebuildable(kind: str) -> Never:
    raise RebuiltError(kind)


def returns_unrebuildable(kind: str) -> Any:
    return Rebuilt(kind, in_container=False)


def breaks_output(kind: str) -> Never:
    sys.stdout = sys.stderr = BrokenStream(kind)
    raise ValueError("said to a broken stream")


def pid(_: str) -> int:
    return os.getpid()


WAYS: dict[str, Callable[[str], Any]] = {
    each.__name__: each
    for each in (
        *(returns_unpicklable, raises_hostile, raises_unrebuildable, returns_unrebuildable),
        *(breaks_output, pid),
    )
}


@app.function(max_containers=1)
def job(way: str, kind: str) -> Any:
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    return WAYS[way](kind)


@app.function()
async def waiting_job(way: str, kind: str) -> Any:
    await asyncio.sleep(0)
    return WAYS[way](kind)


@app.function(max_containers=1)
def takes(value: Any) -> int:
    return os.getpid()


@app.function()
def items(way: str, kind: str) -> Iterator[Any]:
    yield 1
    yield WAYS[way](kind)


@app.function()
async def waiting_items(way: str, kind: str) -> AsyncIterator[Any]:
    yield 1
    yield WAYS[way](kind)


@app.function()
def tampers(what: str) -> Never:
    """What our own description of a failure is made with is not there any more."""
    if what == "streams":
        sys.stdout = sys.stderr = None
    elif what == "hooks":
        sys.excepthook = sys.unraisablehook = None  # type: ignore[assignment]
        traceback.print_exception = traceback.TracebackException = None  # type: ignore[assignment, misc]
        traceback.extract_tb = linecache.getline = None  # type: ignore[assignment]
    raise ValueError(what)


@app.function(timeout=1)
def hangs() -> Never:
    raise HangingError


@app.function()
def endless() -> Never:
    raise EndlessError("of many")


@app.function()
def stops(kind: str) -> Never:
    raise KINDS[kind](7)


def count(path: str) -> None:
    with Path(path).open("a") as file:
        file.write("x")


@app.function(retries=ONCE)
def cancels_itself(path: str) -> Never:
    count(path)
    raise asyncio.CancelledError("mine")


@app.function(retries=ONCE)
async def awaits_cancelled(path: str, how: str) -> None:
    count(path)
    task = asyncio.ensure_future(asyncio.sleep(60))
    if how == "scope":
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
    else:
        asyncio.get_running_loop().call_soon(task.cancel)
    try:
        await task
    finally:
        task.cancel()


@app.function()
async def yields_cancelled(count: int) -> AsyncIterator[int]:
    for n in range(count):
        yield n
    raise asyncio.CancelledError("mine")


@app.cls()
class Entered:
    kind: str = qmodal.parameter()

    @qmodal.enter()
    def enter(self) -> None:
        raise HostileError(self.kind)

    @qmodal.method()
    def answer(self) -> int:
        return 42


@app.cls(single_use_containers=True)
class Exiting:
    kind: str = qmodal.parameter()

    @qmodal.exit()
    def leave(self) -> None:
        raise HostileError(self.kind)

    @qmodal.method()
    def answer(self) -> int:
        return 42


@app.function()
def named(self: int, args: int, kwargs: int, error: int = 0) -> tuple[int, ...]:
    return self, args, kwargs, error


@app.function()
def counted(self: int) -> Iterator[int]:
    yield from range(self)
