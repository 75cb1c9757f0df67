"""Results: what a map gives back, to be iterated by a plain or an asyncio caller."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any, Generic, TypeVar

from qmodal.client.client import current_for
from qmodal.client.verb import is_in_loop
from qmodal.exception import InvalidError
from qmodal.functions.map.inputs import InputReader
from qmodal.functions.map.map_call import MapCall, MapOptions
from qmodal.functions.target import FindTarget
from qmodal.transport.operation import Op

R = TypeVar("R")
log = logging.getLogger("qmodal")


class Results(Generic[R]):
    """The results of a map: nothing is sent before they are iterated, and that works once."""

    def __init__(
        self, find: FindTarget, verb: str, inputs: InputReader, options: MapOptions
    ) -> None:
        self._find = find
        self._verb = verb
        self._inputs = inputs
        self._options = options
        self._is_used = False
        self._running: AsyncIterator[R] | None = None

    def __iter__(self) -> Iterator[R]:
        if is_in_loop():
            self._is_used = True  # who is told this need not be told that nothing runs
            raise InvalidError(
                f"You can't iter(Function.{self._verb}()) from an async function. "
                f"Use async for ... in Function.{self._verb}.aio() instead."
            )
        if self._is_used:
            return iter(())
        self._is_used = True
        return _iterated(self._find, self._inputs, self._options)

    def __repr__(self) -> str:
        if self._is_used:
            return f"<results of Function.{self._verb}>"
        return f"<results of Function.{self._verb}: nothing runs before they are iterated, as by list(...)>"

    def __aiter__(self) -> AsyncIterator[R]:
        self._is_used = True
        if self._running is None:
            self._running = _aiterated(self._find, self._inputs, self._options)
        return self._running

    async def __anext__(self) -> R:
        return await anext(aiter(self))

    async def aclose(self) -> None:
        """Nobody wants the rest."""
        running: Any = aiter(self)
        await running.aclose()

    def __del__(self) -> None:
        if not getattr(self, "_is_used", True):
            log.warning(
                "the results of a call to Function.%s was not consumed, "
                "so the call will never be executed.",
                self._verb,
            )


def _iterated(find: FindTarget, inputs: InputReader, options: MapOptions) -> Iterator[Any]:
    # No method: results that are dropped end their map at once, without waiting for a cycle to be found.
    from qmodal.functions.map.feeders import feeder_of
    from qmodal.output.progress import shown

    client = current_for(find)
    call = client.run(MapCall.begun(client, find, options))
    feeder = feeder_of(client, call, inputs)
    spare = True
    try:
        with call.traced(), shown(client, call, inputs):
            while not call.is_done:
                feeder.wait()
                yield from client.run(_taken(call, feeder.step()))
    except KeyboardInterrupt:
        spare = False
        raise
    finally:
        try:
            feeder.stop()
        finally:  # whoever is interrupted there, too
            client.run(call.stop(spare=spare))


async def _aiterated(
    find: FindTarget, inputs: InputReader, options: MapOptions
) -> AsyncIterator[Any]:
    import asyncio

    from qmodal.functions.map.feeders import async_feeder_of
    from qmodal.output.progress import shown

    client = current_for(find)
    call = await client.aio(MapCall.begun(client, find, options))
    feeder = async_feeder_of(client, call, inputs)
    spare = True
    try:
        with call.traced(), shown(client, call, inputs):
            while not call.is_done:
                await feeder.wait()
                for value in await client.aio(_taken(call, feeder.step())):
                    yield value
    except (asyncio.CancelledError, KeyboardInterrupt):
        spare = False
        raise
    finally:
        try:
            await feeder.stop()
        finally:  # whoever is cancelled there, too
            await client.aio(call.stop(spare=spare))


def _taken(call: MapCall[Any], step: Op[None]) -> Op[list[Any]]:
    """The results whose turn it is after the step; raises a fatal failure."""
    yield from step
    return call.take()
