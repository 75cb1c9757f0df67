"""The shape of a subject: what a module in `subjects/` has to offer.

A module defines `Subject`, whose verbs block, or `AioSubject`, whose verbs are coroutines, or both.
The two bases have defaults for everything but `submit` and `result`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Commands = Sequence[Sequence[str]]
# Without a limit of its own a lost wake-up would hold up the whole run.
RESULT_SECONDS = 60.0
IN_FLIGHT = 20


class Subject(Protocol):
    """A queue under measurement, with blocking verbs; `task` is a name in `tasks.TASKS`."""

    # Workload -> why it cannot do that one.
    cannot: Mapping[str, str]

    def commands(self) -> Commands:
        """The command lines of its `settings.WORKERS` workers."""

    def open(self) -> None:
        """Connect; the server is empty and no worker runs."""

    def close(self) -> None:
        """Disconnect."""

    def submit(self, task: str, value: Any) -> Any:
        """Submit one input; its handle, once it was accepted."""

    def result(self, handle: Any) -> Any:
        """Wait for the result."""

    def call(self, task: str, value: Any) -> Any:
        """Submit, and wait for the result."""

    def submit_many(self, task: str, values: Sequence[Any]) -> Sequence[Any]:
        """Submit many inputs in the best way there is; their handles."""

    def map(self, task: str, values: Sequence[Any]) -> list[Any]:
        """The results of many inputs, in order, in the best way there is."""


class AioSubject(Protocol):
    """The same with coroutines."""

    cannot: Mapping[str, str]
    # Whether to run on uvloop where it is installed.
    on_uvloop: bool

    def commands(self) -> Commands: ...
    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def submit(self, task: str, value: Any) -> Any: ...
    async def result(self, handle: Any) -> Any: ...
    async def call(self, task: str, value: Any) -> Any: ...
    async def submit_many(self, task: str, values: Sequence[Any]) -> Sequence[Any]: ...
    async def map(self, task: str, values: Sequence[Any]) -> list[Any]: ...


class Blocking:
    """Defaults for a `Subject`."""

    cannot: Mapping[str, str] = {}

    def commands(self) -> Commands:
        return ()

    def open(self) -> None: ...

    def close(self) -> None: ...

    def submit(self, task: str, value: Any) -> Any:
        raise NotImplementedError

    def result(self, handle: Any) -> Any:
        raise NotImplementedError

    def call(self, task: str, value: Any) -> Any:
        return self.result(self.submit(task, value))

    def submit_many(self, task: str, values: Sequence[Any]) -> Sequence[Any]:
        return [self.submit(task, value) for value in values]

    def map(self, task: str, values: Sequence[Any]) -> list[Any]:
        return [self.result(handle) for handle in self.submit_many(task, values)]


class Aio:
    """Defaults for an `AioSubject`."""

    cannot: Mapping[str, str] = {"w12": "does not put calls into batches"}
    on_uvloop = True

    def commands(self) -> Commands:
        return ()

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def submit(self, task: str, value: Any) -> Any:
        raise NotImplementedError

    async def result(self, handle: Any) -> Any:
        raise NotImplementedError

    async def call(self, task: str, value: Any) -> Any:
        return await self.result(await self.submit(task, value))

    async def submit_many(self, task: str, values: Sequence[Any]) -> Sequence[Any]:
        return await gathered((self.submit(task, value) for value in values), IN_FLIGHT)

    async def map(self, task: str, values: Sequence[Any]) -> list[Any]:
        handles = await self.submit_many(task, values)
        return await gathered((self.result(handle) for handle in handles), IN_FLIGHT)


async def gathered(coroutines: Iterable[Coroutine[Any, Any, T]], limit: int) -> list[T]:
    """The results in order, with at most `limit` in flight."""
    waiting = enumerate(coroutines)
    done: dict[int, T] = {}

    async def lane() -> None:
        for number, coroutine in waiting:
            done[number] = await coroutine

    await asyncio.gather(*(lane() for _ in range(limit)))
    return [done[number] for number in range(len(done))]


class Direct:
    """A blocking subject under coroutine names, so that a workload is written once.

    Nothing here ever suspends, so `drive` runs it without an event loop.
    """

    on_uvloop = False

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.cannot = subject.cannot

    def commands(self) -> Commands:
        return self._subject.commands()

    async def open(self) -> None:
        self._subject.open()

    async def close(self) -> None:
        self._subject.close()

    async def submit(self, task: str, value: Any) -> Any:
        return self._subject.submit(task, value)

    async def result(self, handle: Any) -> Any:
        return self._subject.result(handle)

    async def call(self, task: str, value: Any) -> Any:
        return self._subject.call(task, value)

    async def submit_many(self, task: str, values: Sequence[Any]) -> Sequence[Any]:
        return self._subject.submit_many(task, values)

    async def map(self, task: str, values: Sequence[Any]) -> list[Any]:
        return self._subject.map(task, values)


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that only waits for `Direct` subjects."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise RuntimeError("a blocking subject has suspended")


async def sleep(subject: AioSubject, seconds: float) -> None:
    """Wait in the way that suits the subject."""
    if isinstance(subject, Direct):
        _block(seconds)
    else:
        await asyncio.sleep(seconds)


def _block(seconds: float) -> None:
    time.sleep(seconds)
