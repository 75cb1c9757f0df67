"""The asyncio connections of a client: each event loop has its own, and they end with it."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any
from weakref import WeakKeyDictionary

from qmodal.transport.aio_driver import AsyncDriver
from qmodal.transport.connection import Address
from qmodal.transport.operation import Command


class Loops:
    """A driver for each loop, known as long as somebody else keeps the loop.

    The loop's own thread makes it, uses it and ends it. Other threads may only take away those of
    loops that will not run any more.
    """

    def __init__(self, address: Address, later: deque[Command]) -> None:
        self._address = address
        self._later = later
        self._ends: WeakKeyDictionary[asyncio.AbstractEventLoop, _End] = WeakKeyDictionary()
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return len(self._ends)

    def driver(self) -> AsyncDriver:
        """That of the running loop."""
        loop = asyncio.get_running_loop()
        end = self._ends.get(loop)
        return self._begin(loop) if end is None else end.driver

    def _begin(self, loop: asyncio.AbstractEventLoop) -> AsyncDriver:
        end = _End(AsyncDriver(self._address, self._later))
        self.leave_closed()
        with self._changing:
            self._ends[loop] = end
        begins = sys.get_asyncgen_hooks().firstiter
        # Whoever is first to call while the loop closes its generators comes too late for that.
        if getattr(loop, "_asyncgens_shutdown_called", False):
            end.driver.is_ending = True
        elif begins is not None:
            begins(end)
        return end.driver

    async def close(self) -> None:
        """Close the connections of the running loop; the next use makes new ones."""
        end = self._ends.get(asyncio.get_running_loop())
        if end is not None:
            await end.driver.close()

    def leave_closed(self, *, with_idle: bool = False) -> None:
        """End the connections of closed loops; `with_idle`: and of those that do not run now.

        A loop that is closed without a word closes plain sockets by itself. TLS connections it does
        not, and they keep the loop.
        """
        with self._changing:
            ended = [
                (loop, end)
                for loop, end in self._ends.items()
                if loop.is_closed() or (with_idle and not loop.is_running())
            ]
            for loop, _ in ended:
                del self._ends[loop]
        for _, end in ended:
            end.driver.abandon()

    def leave_all(self) -> None:
        """Close the copies of all sockets, in the child of a fork; the loops there are copies, too."""
        self._changing = threading.Lock()
        for end in list(self._ends.values()):
            end.driver.abandon()


class _End(AsyncGenerator[None, None]):
    """The end of a driver as an asynchronous generator, which loops close before they close themselves.

    `asyncio.run`, its like and the loops of others close the asynchronous generators that were begun
    in a loop before they close the loop. Nothing else is told of the end while it can still wait.
    """

    def __init__(self, driver: AsyncDriver) -> None:
        self.driver = driver

    async def asend(self, value: None) -> None:
        """It gives nothing."""
        raise StopAsyncIteration

    async def athrow(self, *_error: Any) -> None:
        """It gives nothing."""
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """The loop ends."""
        await self.driver.end()
