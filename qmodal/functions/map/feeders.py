"""Feeders: they submit a map's inputs while its results are read.

What a feeder does with the server is one operation for plain and for asyncio callers (`step`, `submit`);
only how it waits for inputs and results differs.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Protocol

from qmodal.client.client import Client
from qmodal.functions.map.inputs import Arguments, InputReader
from qmodal.functions.map.map_call import CHUNK, STOP_SECONDS, MapCall
from qmodal.functions.map.prefetch import Prefetch
from qmodal.transport.operation import Op

# Inputs that are taken from their iterator before there is room for them on the server.
READ_AHEAD = 2 * CHUNK
# A call whose iterator gives nothing for long is kept alive this often.
PROLONG_SECONDS = 600.0
# A year: longer than any map waits.
NEVER_SECONDS = 365 * 24 * 3600.0


class Feeder(Protocol):
    """Submits inputs for the thread that takes the results."""

    def wait(self) -> None:
        """Wait until a step has something to do; raises what the input iterator raised."""

    def step(self) -> Op[None]:
        """Take in results, and submit inputs that are at hand in the same round trip."""

    def stop(self) -> None:
        """Submit nothing any more; what is on its way has arrived afterwards."""


class AsyncFeeder(Protocol):
    """Submits inputs for the task that takes the results; otherwise as `Feeder`."""

    async def wait(self) -> None:
        """As `Feeder.wait`."""

    def step(self) -> Op[None]:
        """As `Feeder.step`."""

    async def stop(self) -> None:
        """As `Feeder.stop`."""


class InlineFeeder(Prefetch):
    """Submits inputs that are at hand in its steps, so there is nothing to wait for or to stop."""

    def wait(self) -> None:
        """Return at once."""

    def stop(self) -> None:
        """Return at once."""


class AsyncInlineFeeder(Prefetch):
    """As `InlineFeeder`, for asyncio callers."""

    async def wait(self) -> None:
        """Return at once."""

    async def stop(self) -> None:
        """Return at once."""


class InputQueue:
    """Inputs of one map between their iterator and the server.

    Three parties share it: a reader puts inputs in, a sender submits them, and the consumer of the results takes
    those in. Each changes what is its own and then wakes the others, which look at `has_room`, `can_submit`
    and `has_news` under the lock of one condition, so that no change is missed.
    """

    def __init__(self, map_call: MapCall[Any]) -> None:
        self._map_call = map_call
        self._inputs: deque[Arguments] = deque()
        self.is_read = False  # set by the reader: the iterator has ended
        self.is_stopped = False  # set by the consumer
        self.error: BaseException | None = None  # set by whichever of the two others failed

    @property
    def is_over(self) -> bool:
        """Whether nothing may be submitted any more."""
        return self.is_stopped or self.error is not None

    @property
    def is_submitted(self) -> bool:
        """Whether the sender has nothing left to do."""
        return self._map_call.is_fed or self.is_over

    def has_room(self) -> bool:
        """Whether the reader may go on."""
        return len(self._inputs) < READ_AHEAD or self.is_over

    def can_submit(self) -> bool:
        """Whether the sender may go on."""
        if self.is_over:
            return True
        return self._map_call.room > 0 if self._inputs else self.is_read

    def has_news(self) -> bool:
        """Whether the consumer may go on: something has no result yet, or all is submitted."""
        call = self._map_call
        is_moving = call.is_fed or call.reorder.is_ready or call.settled < call.submitted
        return is_moving or self.error is not None

    def put(self, arguments: Arguments) -> None:
        """Append an input; by the reader."""
        self._inputs.append(arguments)

    def submit(self) -> Op[None]:
        """Submit a chunk of the inputs that are there; by the sender."""
        call = self._map_call
        count = max(0, min(call.chunk, call.room, len(self._inputs)))
        chunk = [self._inputs.popleft() for _ in range(count)]
        # In this order: the reader puts the last input in before it says that it was the last.
        is_last = self.is_read and not self._inputs
        yield from call.feed(chunk, is_last=is_last)

    def prolong(self) -> Op[None]:
        """Keep the call, whose next input may be long in coming."""
        return self._map_call.prolong()

    def step(self) -> Op[None]:
        """Take in results, if any are outstanding; by the consumer."""
        call = self._map_call
        if call.settled < call.submitted or call.reorder.waiting:
            yield from call.receive(call.block_ms)


class ThreadFeeder:
    """Reads inputs, which may wait, in one thread and submits them in another one.

    Both begin with the first `wait`: whoever is interrupted before that has nothing to stop.
    """

    def __init__(self, client: Client, map_call: MapCall[Any], inputs: Iterator[Arguments]) -> None:
        self._client = client
        self._inputs = inputs
        self._queue = InputQueue(map_call)
        self._changed = threading.Condition()
        self._submitting = threading.Lock()
        self._to_start = [self._submit, self._read]

    def wait(self) -> None:
        """Wait until the queue has news; raises what the input iterator raised."""
        while self._to_start:
            # The program's context goes along: which input a call is made by is in it.
            run, body = contextvars.copy_context().run, self._to_start.pop()
            threading.Thread(target=run, args=(self._guard, body), daemon=True).start()
        while not self._until(self._queue.has_news, PROLONG_SECONDS):
            self._client.run(self._queue.prolong())
        if self._queue.error is not None:
            raise self._queue.error

    def step(self) -> Op[None]:
        """Take in results."""
        return self._queue.step()

    def stop(self) -> None:
        """Submit nothing any more; a reader that waits for the iterator ends when that gives something."""
        self._queue.is_stopped = True
        self._notify()
        with self._submitting:
            return

    def _until(self, predicate: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wake the others, and wait; False if it took too long."""
        with self._changed:
            self._changed.notify_all()
            return self._changed.wait_for(predicate, seconds)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _guard(self, body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:
            self._queue.error = error
        self._notify()

    def _read(self) -> None:
        queue = self._queue
        for arguments in self._inputs:
            if queue.is_over:
                return
            queue.put(arguments)
            self._until(queue.has_room)
        queue.is_read = True

    def _submit(self) -> None:
        queue = self._queue
        while not queue.is_submitted:
            self._until(queue.can_submit)
            with self._submitting:  # `stop` waits for it
                if not queue.is_over:
                    self._client.run(queue.submit())


class TaskFeeder:
    """Reads inputs, which may wait, in one asyncio task and submits them in another one."""

    def __init__(
        self, client: Client, map_call: MapCall[Any], inputs: AsyncIterator[Arguments]
    ) -> None:
        self._client = client
        self._inputs = inputs
        self._queue = InputQueue(map_call)
        self._changed = asyncio.Condition()
        self._reading = asyncio.create_task(self._guard(self._read))
        self._submitting = asyncio.create_task(self._guard(self._submit))
        # The loop knows its tasks weakly: a map that is dropped without being closed must not take its
        # tasks along before its own end, which waits for them. A timer is what a loop does keep, and
        # no longer than until it is closed.
        self._kept = asyncio.get_running_loop().call_later(NEVER_SECONDS, self._reading.cancel)

    async def wait(self) -> None:
        """Wait until the queue has news; raises what the input iterator raised."""
        while not await self._until_news():
            await self._client.aio(self._queue.prolong())
        if self._queue.error is not None:
            raise self._queue.error

    def step(self) -> Op[None]:
        """Take in results."""
        return self._queue.step()

    async def stop(self) -> None:
        """Submit nothing any more; what is on its way has arrived afterwards."""
        self._queue.is_stopped = True
        self._reading.cancel()
        try:
            await self._notify()
            await asyncio.wait({self._reading, self._submitting}, timeout=STOP_SECONDS)
        finally:
            self._submitting.cancel()  # of use only while the server is away
            self._kept.cancel()

    async def _until(self, predicate: Callable[[], bool]) -> None:
        """Wake the others, and wait."""
        async with self._changed:
            self._changed.notify_all()
            await self._changed.wait_for(predicate)

    async def _until_news(self) -> bool:
        """Wake the others, and wait; False if it took too long."""
        try:
            async with asyncio.timeout(PROLONG_SECONDS):
                await self._until(self._queue.has_news)
        except TimeoutError:
            return False
        return True

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _guard(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await body()
        except BaseException as error:
            # Also a CancelledError, the iterator's own or of all tasks that there are: nothing else would
            # end the map.
            self._queue.error = error
            if self._queue.is_stopped:
                raise
        await self._notify()

    async def _read(self) -> None:
        queue = self._queue
        async for arguments in self._inputs:
            if queue.is_over:  # an iterator may take no notice of being cancelled
                return
            queue.put(arguments)
            await self._until(queue.has_room)
        queue.is_read = True

    async def _submit(self) -> None:
        queue = self._queue
        while not queue.is_submitted:
            await self._until(queue.can_submit)
            if not queue.is_over:
                await self._client.aio(queue.submit())


def feeder_of(client: Client, map_call: MapCall[Any], inputs: InputReader) -> Feeder:
    """The feeder for these inputs; those that were submitted before are left out."""
    if inputs.is_at_hand or map_call.is_fed:
        return InlineFeeder(map_call, inputs)
    return ThreadFeeder(client, map_call, inputs.plain(start=map_call.submitted))


def async_feeder_of(client: Client, map_call: MapCall[Any], inputs: InputReader) -> AsyncFeeder:
    """As `feeder_of`, for asyncio callers."""
    if inputs.is_at_hand or map_call.is_fed:
        return AsyncInlineFeeder(map_call, inputs)
    return TaskFeeder(client, map_call, inputs.aio(start=map_call.submitted))
