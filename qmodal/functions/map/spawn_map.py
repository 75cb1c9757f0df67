"""`spawn_map`: submit all inputs now, and fetch the results whenever and wherever."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any, Generic, TypeVar

from qmodal.client.client import Client, current_for
from qmodal.functions.call import FunctionCall
from qmodal.functions.map.inputs import Arguments, InputReader
from qmodal.functions.map.map_call import MapCall, MapOptions
from qmodal.functions.map.prefetch import Prefetch
from qmodal.functions.map.verbs import refuse_in_loop, start
from qmodal.functions.target import FindTarget
from qmodal.transport.operation import Op, Pause

R = TypeVar("R")
# What a slow input iterator has given so far is sent after this long.
LINGER_SECONDS = 0.01
# Inputs of one spawned map that may wait; beyond that `spawn_map` waits, too.
MOST_SPAWNED = 1_000_000


class SpawnMap(Generic[R]):
    """`f.spawn_map(...)`: submit all inputs and return the call that holds them."""

    __slots__ = ("_find",)

    def __init__(self, find: FindTarget) -> None:
        self._find = find

    def __call__(
        self,
        *input_iterators: Any,
        kwargs: dict[str, Any] | None = None,
        resume: str | None = None,
    ) -> FunctionCall[R]:
        """Submit and return the handle; with `resume`, only what was not submitted before."""
        refuse_in_loop("spawn_map")
        inputs = InputReader.zipped("spawn_map", input_iterators, kwargs)
        client = current_for(self._find)
        fanout = client.run(_start(client, self._find, resume))
        if inputs.is_at_hand:
            client.run(_spawn_ahead(client, fanout, inputs))
        following = islice(inputs.plain(), fanout.submitted, None)
        while not fanout.is_fed:
            chunk, ends = list[Arguments](), time.monotonic() + LINGER_SECONDS
            for arguments in following:
                chunk.append(arguments)
                if len(chunk) == fanout.chunk or time.monotonic() > ends:
                    break
            else:
                ends = 0.0
            client.run(_spawn(client, fanout, chunk, is_last=not ends))
        return FunctionCall(fanout.call, fanout.submitted)

    async def aio(
        self,
        *input_iterators: Any,
        kwargs: dict[str, Any] | None = None,
        resume: str | None = None,
    ) -> FunctionCall[R]:
        """The same without blocking the event loop; also over async iterators."""
        inputs = InputReader.zipped("spawn_map", input_iterators, kwargs)
        client = current_for(self._find)
        fanout = await client.aio(_start(client, self._find, resume))
        if inputs.is_at_hand:
            await client.aio(_spawn_ahead(client, fanout, inputs))
        else:
            await _spawn_slow(client, fanout, inputs.aio())
        return FunctionCall(fanout.call, fanout.submitted)


async def _spawn_slow(
    client: Client, fanout: MapCall[Any], inputs: AsyncIterator[Arguments]
) -> None:
    for _ in range(fanout.submitted):
        await anext(inputs, None)
    while not fanout.is_fed:
        chunk, ends = list[Arguments](), time.monotonic() + LINGER_SECONDS
        async for arguments in inputs:
            chunk.append(arguments)
            if len(chunk) == fanout.chunk or time.monotonic() > ends:
                break
        else:
            ends = 0.0
        await client.aio(_spawn(client, fanout, chunk, is_last=not ends))


def _start(client: Client, find: FindTarget, resume: str | None) -> Op[MapCall[Any]]:
    fanout: MapCall[Any] = yield from start(client, find, MapOptions(keep=True, resume=resume))
    yield from fanout.learn()
    return fanout


def _spawn_ahead(client: Client, fanout: MapCall[Any], inputs: InputReader) -> Op[None]:
    """Submit inputs that are at hand."""
    ahead = Prefetch(fanout, inputs)
    while not fanout.is_fed:
        yield from _until_room(client, fanout)
        yield from ahead.send()


def _spawn(
    client: Client, fanout: MapCall[Any], chunk: list[Arguments], *, is_last: bool
) -> Op[None]:
    """Submit the next inputs."""
    yield from _until_room(client, fanout)
    yield from fanout.feed(chunk, is_last=is_last)


def _until_room(client: Client, fanout: MapCall[Any]) -> Op[None]:
    """Wait until few enough inputs wait, of a call whose results nobody reads meanwhile."""
    while fanout.submitted - fanout.settled >= MOST_SPAWNED:
        record = yield from client.calls.record(fanout.call)
        fanout.settled = fanout.submitted if record is None else record.settled
        if fanout.submitted - fanout.settled >= MOST_SPAWNED:
            yield Pause(1.0)
