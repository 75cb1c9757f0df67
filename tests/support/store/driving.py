"""Both drivers under one roof, so that each test of one is a test of the other."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from qmodal.transport.aio_driver import AsyncDriver
from qmodal.transport.connection import Address
from qmodal.transport.driver import BlockingDriver
from qmodal.transport.operation import Command, Exchange, Op, Reply

T = TypeVar("T")


class Driven(Protocol):
    """A driver, used from plain code."""

    def run(self, op: Op[T]) -> T:
        """Drive an operation."""

    def exchange(self, request: Exchange) -> list[Reply]:
        """Carry out one exchange."""

    def later(self, command: Command) -> None:
        """Put a command off."""

    def close(self) -> None:
        """Close its connections."""


class AsyncDriven:
    """The asyncio driver with a loop of its own."""

    def __init__(self, address: Address) -> None:
        self.driver = AsyncDriver(address)
        self.loop = asyncio.Runner()

    def run(self, op: Op[T]) -> T:
        """Drive an operation in the loop."""
        return self.loop.run(self.driver.run(op))

    def exchange(self, request: Exchange) -> list[Reply]:
        """Carry out one exchange in the loop."""
        return self.loop.run(self.driver.exchange(request))

    def later(self, command: Command) -> None:
        """Put a command off."""
        self.driver.later(command)

    def close(self) -> None:
        """Close the connections, then the loop."""
        self.loop.run(self.driver.close())
        self.loop.close()


DRIVERS: dict[str, Callable[[Address], Driven]] = {
    "blocking": BlockingDriver,
    "asyncio": AsyncDriven,
}


class Background:
    """One thread that something can wait in while the test goes on."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1)

    def start(self, act: Callable[..., T], *arguments: Any) -> Future[T]:
        """Begin; the result is waited for with `result(timeout)`."""
        return self._threads.submit(act, *arguments)

    def close(self) -> None:
        """Wait for the end."""
        self._threads.shutdown()


def before_each_step(op: Op[T], act: Callable[[], object]) -> Op[T]:
    """The operation, with something that happens before each of its exchanges."""
    try:
        request = next(op)
        while True:
            act()
            request = op.send((yield request))
    except StopIteration as done:
        result: T = done.value
        return result


def before_step(op: Op[T], moment: int, act: Callable[[], object]) -> Op[T]:
    """The operation, with something that happens before its exchange of that number."""
    try:
        request = next(op)
        for step in itertools.count():
            if step == moment:
                act()
            request = op.send((yield request))
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError
