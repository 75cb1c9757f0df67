"""An app whose containers run several inputs at once, or in batches; run by test_concurrent.py and test_batched.py."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import qmodal

app = qmodal.App("side-by-side")
entered: contextvars.ContextVar[str] = contextvars.ContextVar("entered", default="")
WAIT = 0.005


async def until(path: str) -> None:
    """Wait for the file."""
    while True:
        if is_there(path):
            return
        await asyncio.sleep(WAIT)


def block_until(path: str) -> None:
    while not is_there(path):
        time.sleep(WAIT)


async def gather(folder: str, name: object, count: int) -> None:
    """Wait for so many to be there at once."""
    mark(folder, name)
    while True:
        if is_full(folder, count):
            return
        await asyncio.sleep(WAIT)


def gather_threads(folder: str, name: object, count: int) -> None:
    mark(folder, name)
    while not is_full(folder, count):
        time.sleep(WAIT)


def is_there(path: str) -> bool:
    return Path(path).exists()


def mark(folder: str, name: object) -> None:
    Path(folder, str(name)).touch()


def is_full(folder: str, count: int) -> bool:
    return len(list(Path(folder).iterdir())) >= count


@app.function(max_containers=1)
@qmodal.concurrent(max_inputs=20)
async def meet(folder: str, name: int, count: int) -> tuple[int, str | None, str | None, bool]:
    """Returns when so many run at once."""
    await gather(folder, name, count)
    ids = qmodal.current_input_id(), qmodal.current_function_call_id()
    return os.getpid(), *ids, qmodal.is_local()


@app.function(max_containers=1)
@qmodal.concurrent(max_inputs=20)
def meet_in_threads(folder: str, name: int, count: int) -> tuple[int, str | None, str | None, bool]:
    gather_threads(folder, name, count)
    ids = qmodal.current_input_id(), qmodal.current_function_call_id()
    return os.getpid(), *ids, qmodal.is_local()


# With a request: its inputs look for files all the time, and measured they would fill a small box before all are there.
@app.function(scaledown_window=2, cpu=0.125)
@qmodal.concurrent(max_inputs=100)
async def crowd(folder: str, name: int, count: int) -> int:
    await gather(folder, name, count)
    return os.getpid()


@app.function(cpu=0.125)  # as above
@qmodal.concurrent(max_inputs=20, target_inputs=5)
async def burst(folder: str, name: int, count: int) -> int:
    await gather(folder, name, count)
    return os.getpid()


@app.function(max_containers=1, retries=qmodal.Retries(max_retries=1, initial_delay=0.0))
@qmodal.concurrent(max_inputs=20)
async def flaky(path: str, how: str) -> str:
    """Fails the first time."""
    if not is_there(path):
        mark("/", path)
        if how == "exit":
            raise SystemExit(3)
        raise ValueError(how)
    return how


@app.function(max_containers=1)
@qmodal.concurrent(max_inputs=20)
async def hostile(how: str, path: str = "") -> Any:
    """Does what others in its container must not suffer from."""
    if how == "wait":
        await until(path)
    deed = DEEDS.get(how)
    made = deed() if deed is not None else how
    return await made if asyncio.iscoroutine(made) else made


async def _cancel_all() -> str:
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task():
            task.cancel()
    return "cancelled"


async def _stop_loop() -> str:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0)
    return "stopped"


async def _exit_in_background() -> str:
    task = asyncio.create_task(_exit())
    with contextlib.suppress(BaseException):
        await task
    return "exited"


def _raise_unpicklable() -> None:
    raise UnpicklableError(threading.Lock())


def _ignore_signal() -> str:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    return "ignored"


DEEDS: dict[str, Callable[[], Any]] = {
    "cancel all": _cancel_all,
    "stop loop": _stop_loop,
    "background exit": _exit_in_background,
    "unpicklable": _raise_unpicklable,
    "unpicklable result": threading.Lock,
    "exit": partial(sys.exit, 5),
    "huge": partial(bytes, 3_000_000),
    "signal": _ignore_signal,
}


async def _exit() -> None:
    raise SystemExit(1)


class UnpicklableError(Exception):
    pass


@app.function(max_containers=1)
@qmodal.concurrent(max_inputs=20)
def forking(how: str) -> Any:
    """A child that comes back from user code ends there."""
    if os.fork() == 0:
        return _awaited() if how == "awaitable" else how
    os.wait()
    return how


async def _awaited() -> int:
    return 1


@app.function(max_containers=1, timeout=1)
@qmodal.concurrent(max_inputs=20)
async def patient(path: str) -> str:
    """Runs out of time unless the file is there."""
    await until(path)
    return path


@app.function(max_containers=1)
@qmodal.concurrent(max_inputs=20)
async def cancellable(path: str, marks: str) -> str:
    """Notes that it runs, and whether it was cancelled."""
    mark("/", marks + ".runs")
    try:
        await until(path)
    except asyncio.CancelledError:
        mark("/", marks + ".cancelled")
        raise
    return f"{os.getpid()}"


@app.function()
@qmodal.concurrent(max_inputs=20)
def threaded(path: str, marks: str) -> int:
    """Notes each process that runs it."""
    Path(f"{marks}.{os.getpid()}").touch()
    block_until(path)
    return os.getpid()


@app.function()
@qmodal.concurrent(max_inputs=20)
def interrupted(path: str, marks: str, is_by_itself: bool = False) -> int:
    """Notes each process that runs it, and may interrupt the first one from its thread."""
    if is_by_itself and not list(Path(marks).parent.glob("itself.first.*")):
        Path(f"{marks}.first.{os.getpid()}").touch()
        signal.raise_signal(signal.SIGINT)
    else:
        Path(f"{marks}.{os.getpid()}").touch()
    block_until(path)
    return os.getpid()


@app.function(max_containers=1)
@qmodal.concurrent(max_inputs=20)
def deaf_threads() -> dict[str, bool]:
    """Which threads of the container are not given SIGINT."""
    return {each.name: _is_deaf(each) for each in threading.enumerate()}


def _is_deaf(thread: threading.Thread) -> bool:
    # The main thread of a forked process still has the number that it had in its parent.
    number = os.getpid() if thread is threading.main_thread() else thread.native_id
    status = Path(f"/proc/self/task/{number}/status").read_text()
    blocked = int(status.partition("SigBlk:")[2].split()[0], 16)
    return bool(blocked >> (signal.SIGINT - 1) & 1)


@app.function(timeout=1)
@qmodal.concurrent(max_inputs=20)
def slow(marks: str, path: str) -> int:
    """Runs out of time unless the file is there."""
    Path(f"{marks}.{os.getpid()}").touch()
    block_until(path)
    return os.getpid()


@app.function(max_containers=1)
@qmodal.concurrent(max_inputs=20)
def count(n: int) -> Iterator[int]:
    yield from range(n)


@app.function(max_containers=1)
@qmodal.concurrent(max_inputs=20)
async def acount(n: int, path: str = "") -> AsyncIterator[int]:
    for i in range(n):
        if path and i == 1:
            await until(path)
        yield i


@app.cls(max_containers=1)
@qmodal.concurrent(max_inputs=20, target_inputs=10)
class Mixed:
    scale: int = qmodal.parameter(default=1)

    @qmodal.enter()
    def first(self) -> None:
        self.entries = ["first"]
        entered.set("variable")

    @qmodal.enter()
    async def second(self) -> None:
        await asyncio.sleep(0)
        self.loop = asyncio.get_running_loop()
        self.entries.append("second")

    @qmodal.exit()
    async def leave(self) -> None:
        await asyncio.sleep(0)
        path = getattr(self, "note", None)
        if path:
            mark("/", path)

    @qmodal.method()
    async def waits(self, folder: str, name: str, count: int) -> tuple[int, list[str], bool]:
        await gather(folder, name, count)
        return os.getpid(), self.entries, self.loop is asyncio.get_running_loop()

    @qmodal.method()
    def blocks(self, folder: str, name: str, count: int) -> tuple[int, list[str], bool]:
        gather_threads(folder, name, count)
        return os.getpid(), self.entries, threading.current_thread() is threading.main_thread()

    @qmodal.method()
    async def variable(self) -> str:
        return entered.get()

    @qmodal.method()
    def variable_here(self) -> str:
        return entered.get()

    @qmodal.method()
    async def up(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i * self.scale

    @qmodal.method()
    def note_exit(self, path: str) -> None:
        self.note = path


@app.cls()
@qmodal.concurrent(max_inputs=20)
class Lingering:
    @qmodal.exit()
    def leave(self) -> None:
        block_until(self.path)

    @qmodal.method()
    def run(self, path: str, marks: str) -> int:
        """Notes each process that runs it."""
        self.path = path
        Path(f"{marks}.{os.getpid()}").touch()
        block_until(path)
        return os.getpid()


@app.function(max_containers=1)
@qmodal.batched(max_batch_size=4, wait_ms=300)
def add(x: list[int], y: list[int]) -> list[tuple[int, int]]:
    """The sum, and how many were in the batch."""
    return [(a + b, len(x)) for a, b in zip(x, y, strict=True)]


@app.function(max_containers=1)
@qmodal.batched(max_batch_size=4, wait_ms=300)
async def aadd(x: list[int], y: list[int]) -> list[tuple[int, int]]:
    await asyncio.sleep(0)
    return [(a + b, len(x)) for a, b in zip(x, y, strict=True)]


@app.function(max_containers=1)
@qmodal.batched(max_batch_size=4, wait_ms=100)
def wrong(x: list[Any]) -> Any:
    if "tuple" in x:
        return tuple(x)
    if "short" in x:
        return x[1:]
    if "raise" in x:
        raise ValueError("raised for all")
    return [threading.Lock() if each == "lock" else each for each in x]


@app.function(max_containers=1, retries=qmodal.Retries(max_retries=2, initial_delay=0.0))
@qmodal.batched(max_batch_size=4, wait_ms=200)
def retried(path: list[str]) -> list[int]:
    """Fails when one comes for the first time; returns how often each came."""
    for each in path:
        with Path(each).open("a") as file:
            file.write("x")
    if any(len(Path(each).read_text()) == 1 for each in path):
        raise ValueError("the first time")
    return [len(Path(each).read_text()) for each in path]


@app.function(max_containers=1)
@qmodal.batched(max_batch_size=4, wait_ms=50)
def in_batch(how: list[str]) -> list[Any]:
    """What plain code finds on the main thread."""
    return [_in_batch(each) for each in how]


def _in_batch(how: str) -> Any:
    if how == "thread":
        return threading.current_thread() is threading.main_thread()
    if how == "loop":
        return asyncio.run(_awaited())
    if how == "fork":
        if os.fork() == 0:
            return how
        os.wait()
    return how


@app.function(max_containers=1, timeout=1)
@qmodal.batched(max_batch_size=4, wait_ms=100)
def late(path: list[str]) -> list[str]:
    """Notes that it runs, and waits for the files."""
    for each in path:
        mark("/", each + ".runs")
        block_until(each)
    return path


@app.function(max_containers=1)
@qmodal.concurrent(max_inputs=3)
@qmodal.batched(max_batch_size=2, wait_ms=100)
async def both(folder: list[str], name: list[str], count: list[int]) -> list[int]:
    for where, each in zip(folder, name, strict=True):
        mark(where, each)
    await gather(folder[0], name[0], count[0])
    return [len(name)] * len(name)


@app.cls(max_containers=1)
class Model:
    factor: int = qmodal.parameter(default=2)

    @qmodal.enter()
    def load(self) -> None:
        self.weights = self.factor

    @qmodal.batched(max_batch_size=8, wait_ms=200)
    async def predict(self, x: list[int]) -> list[tuple[int, int]]:
        return [(each * self.weights, len(x)) for each in x]


@app.function()
def single(x: int) -> tuple[int, int]:
    return x, os.getpid()


@app.function()
async def asingle(folder: str, name: int, count: int) -> int:
    await gather(folder, name, count)
    return os.getpid()


@app.function(max_containers=1)
def listed(x: list[int]) -> list[int]:
    return [each + 1 for each in x]
