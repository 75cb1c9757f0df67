"""How a map's inputs get to the server while its results are read: for asyncio callers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol

from qmodal.client.client import Client
from qmodal.functions.map.feeder import PROLONG_SECONDS, READ_AHEAD
from qmodal.functions.map.inputs import Arguments, InputReader
from qmodal.functions.map.map_call import LEAVE_SECONDS, MapCall
from qmodal.functions.map.prefetch import Prefetch

# A year: longer than any map waits.
NEVER_SECONDS = 365 * 24 * 3600.0


class AsyncFeeder(Protocol):
    """Submits inputs; used by the task that takes the results."""

    async def step(self) -> None:
        """Take in results, or wait until there may be some; raises what the input iterator raised."""

    async def stop(self) -> None:
        """Submit nothing any more; what is on its way has arrived afterwards."""


class AsyncInlineFeeder:
    """Takes inputs that are at hand between two reads."""

    def __init__(self, client: Client, ahead: Prefetch) -> None:
        self._client = client
        self._ahead = ahead

    async def step(self) -> None:
        """Submit a chunk, if there is room for it, and read in the same round trip."""
        await self._client.aio(self._ahead.step())

    async def stop(self) -> None:
        """There is nothing that goes on by itself."""


class TaskFeeder:
    """One asyncio task takes inputs, which may wait, and another one submits what there is."""

    def __init__(
        self, client: Client, fanout: MapCall[Any], inputs: AsyncIterator[Arguments]
    ) -> None:
        self._client = client
        self._fanout = fanout
        self._inputs = inputs
        self._waiting: deque[Arguments] = deque()
        self._turn = asyncio.Condition()
        self._is_read = False
        self._is_stopped = False
        self._error: BaseException | None = None
        self._reading = asyncio.create_task(self._guard(self._read))
        self._sending = asyncio.create_task(self._guard(self._send))
        # The loop knows its tasks weakly: a map that is dropped without being closed must not take its
        # tasks along before its own end, which waits for them. A timer is what a loop does keep, and
        # no longer than until it is closed.
        self._kept = asyncio.get_running_loop().call_later(NEVER_SECONDS, self._reading.cancel)

    async def step(self) -> None:
        """Wait until something was submitted that has no result yet, or all has been; then read."""
        while True:
            try:
                async with asyncio.timeout(PROLONG_SECONDS):
                    await self._until(self._has_news)
                break
            except TimeoutError:
                await self._client.aio(self._fanout.prolong())
        if self._error is not None:
            raise self._error
        fanout = self._fanout
        if fanout.settled < fanout.submitted or fanout.arrivals.waiting:
            await self._client.aio(fanout.receive(fanout.patience))

    async def stop(self) -> None:
        """Submit nothing any more; what is on its way has arrived afterwards."""
        self._is_stopped = True
        self._reading.cancel()
        try:
            await self._until(lambda: True)
            await asyncio.wait({self._reading, self._sending}, timeout=LEAVE_SECONDS)
        finally:
            self._sending.cancel()  # of use only while the server is away
            self._kept.cancel()

    async def _until(self, predicate: Callable[[], bool]) -> None:
        async with self._turn:
            self._turn.notify_all()
            await self._turn.wait_for(predicate)

    def _has_news(self) -> bool:
        fanout = self._fanout
        is_moving = fanout.is_fed or fanout.arrivals.is_ready or fanout.settled < fanout.submitted
        return is_moving or self._error is not None

    async def _guard(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await body()
        except BaseException as error:
            # Also a CancelledError, the iterator's own or of all tasks that there are: nothing else would
            # end the map.
            self._error = error
            if self._is_stopped:
                raise
            await self._until(lambda: True)

    async def _read(self) -> None:
        skipped = self._fanout.submitted
        async for arguments in self._inputs:
            if self._is_over():  # an iterator may take no notice of being cancelled
                return
            if skipped:
                skipped -= 1
                continue
            self._waiting.append(arguments)
            await self._until(lambda: len(self._waiting) < READ_AHEAD)
        self._is_read = True
        await self._until(lambda: True)

    async def _send(self) -> None:
        fanout = self._fanout
        while not fanout.is_fed:
            await self._until(self._can_send)
            if self._is_over():
                return
            count = max(0, min(fanout.chunk, fanout.room, len(self._waiting)))
            chunk = [self._waiting.popleft() for _ in range(count)]
            is_last = self._is_read and not self._waiting
            await self._client.aio(fanout.feed(chunk, is_last=is_last))
            await self._until(lambda: True)

    def _is_over(self) -> bool:
        return self._is_stopped or self._error is not None

    def _can_send(self) -> bool:
        if self._is_over():
            return True
        return self._fanout.room > 0 if self._waiting else self._is_read


def feeding(client: Client, fanout: MapCall[Any], inputs: InputReader) -> AsyncFeeder:
    """The feeder for these inputs; those that were submitted before are left out."""
    if inputs.is_at_hand or fanout.is_fed:
        return AsyncInlineFeeder(client, Prefetch(fanout, inputs))
    return TaskFeeder(client, fanout, inputs.aio())
