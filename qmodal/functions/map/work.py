"""Work: what `for_each` and `spawn_map` do with many inputs, for a plain or an asyncio caller."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from qmodal.client.client import Client, current_for
from qmodal.functions.call import FunctionCall
from qmodal.functions.map.inputs import Arguments, InputReader
from qmodal.functions.map.map_call import MapCall, MapOptions
from qmodal.functions.map.map_results import Results
from qmodal.functions.map.prefetch import Prefetch
from qmodal.functions.target import FindTarget
from qmodal.transport.operation import Op, Pause

R = TypeVar("R")
# What a slow input iterator has given so far is submitted after this long.
LINGER_SECONDS = 0.01
# Most unsettled inputs of one `spawn_map`; submitting waits for room beyond it, and looks this often.
MOST_SPAWNED = 1_000_000
FULL_SECONDS = 1.0
FULL = (
    "spawn_map waits: %s has %d inputs that have not ended, which is the most; it submits the others as these end, "
    "for which containers have to run"
)
log = logging.getLogger("qmodal")


class Work(ABC, Generic[R]):
    """What one of two loops over inputs or results does, a plain and an asyncio one."""

    __slots__ = ()

    @abstractmethod
    def run(self) -> R:
        """Do it and wait."""

    @abstractmethod
    async def aio(self) -> R:
        """Do it without blocking the event loop."""


class Drain(Work[None]):
    """Waits for all results of a map and drops them."""

    __slots__ = ("_results",)

    def __init__(self, results: Results[Any]) -> None:
        self._results = results

    def run(self) -> None:
        """Wait for all."""
        for _ in self._results:
            continue

    async def aio(self) -> None:
        """Wait for all without blocking the event loop."""
        async for _ in self._results:
            continue


class Spawn(Work[FunctionCall[Any]]):
    """Submits all inputs of a call whose results nobody reads meanwhile."""

    __slots__ = ("_find", "_inputs", "_options")

    def __init__(self, find: FindTarget, inputs: InputReader, resume: str | None) -> None:
        self._find = find
        self._inputs = inputs
        self._options = MapOptions(keep=True, resume=resume)

    def run(self) -> FunctionCall[Any]:
        """Submit, and return the handle."""
        client = current_for(self._find)
        call = client.run(self._begin(client))
        inputs = self._inputs.plain(start=call.submitted)
        with call.traced():
            while not call.is_fed:
                chunk, ends, is_last = list[Arguments](), time.monotonic() + LINGER_SECONDS, True
                for arguments in inputs:
                    chunk.append(arguments)
                    if len(chunk) == call.chunk or time.monotonic() > ends:
                        is_last = False
                        break
                client.run(self._feed(client, call, chunk, is_last=is_last))
        return FunctionCall(call.call, call.submitted)

    async def aio(self) -> FunctionCall[Any]:
        """Submit, and return the handle, without blocking the event loop."""
        client = current_for(self._find)
        call = await client.aio(self._begin(client))
        inputs = self._inputs.aio(start=call.submitted)
        with call.traced():
            while not call.is_fed:
                chunk, ends, is_last = list[Arguments](), time.monotonic() + LINGER_SECONDS, True
                async for arguments in inputs:
                    chunk.append(arguments)
                    if len(chunk) == call.chunk or time.monotonic() > ends:
                        is_last = False
                        break
                await client.aio(self._feed(client, call, chunk, is_last=is_last))
        return FunctionCall(call.call, call.submitted)

    def _begin(self, client: Client) -> Op[MapCall[Any]]:
        """The call; inputs that are at hand are submitted at once."""
        call = yield from MapCall.begun(client, self._find, self._options)
        yield from call.expect_service_time()
        if self._inputs.is_at_hand:
            prefetch = Prefetch(call, self._inputs)
            with call.traced():
                while not call.is_fed:
                    yield from self._wait_for_room(client, call, (yield from prefetch.upcoming()))
                    yield from prefetch.submit()
        return call

    def _feed(
        self, client: Client, call: MapCall[Any], chunk: list[Arguments], *, is_last: bool
    ) -> Op[None]:
        yield from self._wait_for_room(client, call, len(chunk))
        yield from call.feed(chunk, is_last=is_last)

    def _wait_for_room(self, client: Client, call: MapCall[Any], count: int) -> Op[None]:
        """Wait until so many more may be unsettled; only the server knows how many are."""
        has_said = False
        while count and call.submitted + count - call.settled > MOST_SPAWNED:
            record = yield from client.calls.record(call.call)
            call.settled = call.submitted if record is None else record.settled
            if call.submitted + count - call.settled > MOST_SPAWNED:
                if not has_said:
                    log.warning(FULL, call.call, MOST_SPAWNED)
                    has_said = True
                yield Pause(FULL_SECONDS)
