"""Functions that fork, whose children come back as if they were the container."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import qmodal as modal

app = modal.App("forking")


def come_back(how: str) -> str:
    """What a forked child does in its parent's place."""
    if how == "raises":
        raise ValueError("child")
    if how == "exits":
        sys.exit(3)
    if how == "interrupts":
        raise KeyboardInterrupt
    return "child"


def status_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def forked_at_import() -> int | None:
    pid = 0 if modal.is_local() else os.fork()
    return status_of(pid) if pid else None


AT_IMPORT = forked_at_import()


@app.function(max_containers=1)
def plain(how: str) -> Any:
    pid = os.fork()
    return status_of(pid) if pid else come_back(how)


@app.function(max_containers=1)
async def coroutine(how: str) -> Any:
    await asyncio.sleep(0)
    pid = os.fork()
    return status_of(pid) if pid else come_back(how)


@app.function(max_containers=1)
def items(how: str) -> Iterator[Any]:
    yield "first"
    pid = os.fork()
    yield status_of(pid) if pid else come_back(how)
    yield "last"


@app.function(max_containers=1)
async def items_aio(how: str) -> AsyncIterator[Any]:
    yield "first"
    pid = os.fork()
    yield status_of(pid) if pid else come_back(how)
    yield "last"


@app.cls(max_containers=1, single_use_containers=True)
class Hooks:
    how: str = modal.parameter()
    left: str = modal.parameter()

    @modal.enter()
    def enter(self) -> None:
        pid = os.fork()
        self.entered = status_of(pid) if pid else come_back(self.how)

    @modal.method()
    def status(self) -> Any:
        return AT_IMPORT, self.entered

    @modal.exit()
    def leave(self) -> None:
        pid = os.fork()
        text = status_of(pid) if pid else come_back(self.how)
        Path(self.left).write_text(str(text))


@app.cls(max_containers=1, enable_memory_snapshot=True)
class Warm:
    @modal.enter(snap=True)
    def enter(self) -> None:
        pid = os.fork()
        self.entered = status_of(pid) if pid else come_back("returns")

    @modal.method()
    def status(self) -> Any:
        return self.entered


@app.function(max_containers=1)
def pool_of_processes() -> list[int]:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(abs, range(-3, 0))


@app.function()
def square(x: int) -> int:
    return x * x


@app.function(max_containers=1)
def calls_of_both() -> list[Any]:
    """What a child that calls functions, plainly and with asyncio, has got; and its parent."""
    square.remote(1)
    asyncio.run(square.remote.aio(1))
    of_child = _in_a_child(lambda: [square.remote(2), asyncio.run(square.remote.aio(3))])
    return [of_child, square.remote(4), asyncio.run(square.remote.aio(5))]


@app.function(max_containers=1)
def handlers_of_a_child() -> Any:
    def look() -> list[bool]:
        is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        return [is_usual, signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL]

    return _in_a_child(look)


def _in_a_child(work: Callable[[], object]) -> str:
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writable, str(work()).encode())
        return ""
    os.close(writable)
    with os.fdopen(readable) as pipe:
        said = pipe.read()
    return f"{said} {status_of(pid)}"
