"""The results of a call one after another, and those of several calls together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from qmodal.client.client import Client, current
from qmodal.client.verb import Verb
from qmodal.outputs import BLOCK_MS, OutputReader, Plain, parts, resolve, value_at
from qmodal.store.outputs import Output, parse_outputs
from qmodal.transport.operation import Exchange, Op
from qmodal.wire.outcome import Outcome

if TYPE_CHECKING:
    from qmodal.call import FunctionCall

R = TypeVar("R")
T = TypeVar("T")


class Following(Generic[R]):
    """`call.iter(...)` and `call.iter.aio(...)`."""

    __slots__ = ("_call", "_count")

    def __init__(self, call: str, count: Callable[[], Op[int]]) -> None:
        self._call = call
        self._count = count

    def __call__(self, *, start: int = 0, end: int | None = None) -> Generator[R, None, None]:
        """The results, as they are asked for."""
        client = current()
        stop = _checked(start, end, client.run(self._count()))
        turns = _Turns(client, self._call, start)
        for index in range(start, stop):
            yield client.run(turns.take(index))

    async def aio(self, *, start: int = 0, end: int | None = None) -> AsyncGenerator[R, None]:
        """The results, for `async for`."""
        client = current()
        stop = _checked(start, end, await client.aio(self._count()))
        turns = _Turns(client, self._call, start)
        for index in range(start, stop):
            yield await client.aio(turns.take(index))


def _checked(start: int, end: int | None, count: int) -> int:
    stop = count if end is None else end
    if not 0 <= start <= stop <= count:
        raise ValueError(f"start {start} and end {end} are no range within {count} inputs")
    return stop


class _Turns:
    """Results wait here for their turn."""

    def __init__(self, client: Client, call: str, start: int) -> None:
        self._client = client
        self._call = call
        self._start = start
        self._reader = OutputReader(client, call)
        self._arrived: dict[int, Output] = {}
        # The output that was opened last, as its inputs are asked for one after another.
        self._opened: tuple[Output | None, list[Outcome | Plain]] = (None, [])

    def take(self, index: int) -> Op[Any]:
        """The result of this input; raises what it raised."""
        while index not in self._arrived:
            for output in (yield from self._reader.read(BLOCK_MS)):
                self._arrived |= {at: output for at in output.fresh if at >= self._start}
        output = self._arrived.pop(index)
        if self._opened[0] is not output:
            self._opened = output, parts(self._client, self._call, output)
        outcome = self._opened[1][index - output.index]
        return (yield from value_at(self._client, self._call, index, outcome))


class Gathering:
    """`FunctionCall.gather(*calls)` and `FunctionCall.gather.aio(*calls)`.

    The results in the order of the calls. The first failure to arrive raises; the other calls go on.
    """

    __slots__ = ()

    def __call__(self, *function_calls: FunctionCall[T]) -> Sequence[T]:
        """Wait for all of them."""
        return Verb(_gather)(*function_calls)

    async def aio(self, *function_calls: FunctionCall[T]) -> Sequence[T]:
        """The same without blocking the event loop."""
        return await Verb(_gather).aio(*function_calls)


def _gather(*function_calls: FunctionCall[Any]) -> Op[Sequence[Any]]:
    client = current()
    names = [call.object_id for call in function_calls]
    waiting = {name: OutputReader(client, name) for name in names}
    found: dict[str, Any] = {}
    while waiting:
        outputs = yield from _read(client, list(waiting.values()))
        for name, fresh in outputs.items():
            for output in fresh:
                if 0 in output.fresh and name in waiting:
                    found[name] = yield from resolve(client, name, output)
                    del waiting[name]
        if not outputs:
            for reader in waiting.values():  # raises for a call that is gone
                yield from reader.check()
    return [found[name] for name in names]


def _read(client: Client, readers: list[OutputReader]) -> Op[dict[str, list[Output]]]:
    """New outputs of several calls by one read, which waits for the first of them."""
    names = {client.keys.outputs(reader.call).encode(): reader for reader in readers}
    cursors = [reader.cursor for reader in readers]
    command = (b"XREAD", b"COUNT", 100, b"BLOCK", BLOCK_MS, b"STREAMS", *names, *cursors)
    (reply,) = yield Exchange((command,), waits=True)
    return {
        names[stream].call: names[stream].accept(parse_outputs([(stream, entries)]))
        for stream, entries in reply or ()
    }
