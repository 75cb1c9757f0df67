"""The results of a call one after another, and those of several calls together."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from qmodal.client import deprecation as legacy
from qmodal.client.client import Client, current
from qmodal.client.verb import Verb
from qmodal.exception import InvalidError, OutputExpiredError
from qmodal.functions.results import BLOCK_MS, OutputReader, Plain, parts, resolve, value_at
from qmodal.store.outputs import Output, parse_outputs
from qmodal.transport.operation import Exchange, Op
from qmodal.wire.outcome import Outcome

if TYPE_CHECKING:
    from qmodal.types import InputInfo

R = TypeVar("R")
T = TypeVar("T")


class OutputFollower(Generic[R]):
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


class Gather:
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


class FunctionCall(Generic[R]):
    """One call: one input, or the many of a `spawn_map`.

    >>> call = f.spawn(3)
    >>> FunctionCall.from_id(call.object_id).get(timeout=10)
    9
    """

    def __init__(self, call: str, num_inputs: int | None = None) -> None:
        self._call = call
        self._num_inputs = num_inputs

    def __repr__(self) -> str:
        return f"FunctionCall({self._call!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FunctionCall) and other._call == self._call

    def __hash__(self) -> int:
        return hash(self._call)

    def __reduce__(self) -> tuple[Any, ...]:
        return FunctionCall, (self._call, self._num_inputs)

    @classmethod
    def from_id(cls, function_call_id: str, client: Any = None) -> FunctionCall[Any]:
        """The handle of a call by its id; asks nothing of the server. Raises InvalidError for another kind.

        >>> FunctionCall.from_id("fc-...").get()
        """
        if not re.fullmatch("fc-[0-9A-Za-z]+", str(function_call_id)):
            raise InvalidError(f"{function_call_id!r} is not the id of a call; they begin with fc-")
        return FunctionCall(function_call_id)

    get_gen = legacy.Removed("Function.remote_gen(...)")

    @property
    def object_id(self) -> str:
        """The call's id, `fc-...`."""
        return self._call

    @property
    def get(self) -> _Get[R]:
        """Wait for the result: `get(timeout=None, index=0)`, seconds.

        Raises what the input raised; the builtin TimeoutError if it is not ready in time (0 polls
        once), OutputExpiredError if there is no such result (any more).
        """
        return _Get(self._get)

    @property
    def num_inputs(self) -> Verb[[], int]:
        """How many inputs the call has (so far, while a map still submits)."""
        return Verb(self._count)

    @property
    def cancel(self) -> _Cancel:
        """Cancel all inputs, queued and running, without retry; `get` then raises RemoteError.

        Once it returns, none of them starts. Those that run are interrupted, which user code may
        delay or resist: after 5 s its container is killed. A worker that does not answer within a
        second, because it or its box stands still or is cut off, is not waited for: what its
        containers had claimed may still start there, for a moment after it goes on.
        """
        return _Cancel(self._cancel)

    @property
    def iter(self) -> OutputFollower[R]:
        """The results of inputs `start` to `end` (half-open) in index order.

        Raises what a failed input raised when its turn comes, and ValueError for a bad range.
        """
        return OutputFollower(self._call, self._count)

    # `FunctionCall.gather(a, b)`: the results of several calls; see `Gather`.
    gather: ClassVar[Gather] = Gather()

    @property
    def get_call_graph(self) -> Verb[[], list[InputInfo]]:
        """The call's inputs, and below each the inputs of the calls that it made."""
        return Verb(self._graph)

    def _get(self, timeout: float | None = None, *, index: int = 0) -> Op[R]:
        if index < 0:
            raise ValueError(f"index {index} is negative; inputs count from 0")
        client = current()
        reader = OutputReader(client, self._call)
        ends = None if timeout is None else time.monotonic() + timeout
        while True:
            before = reader.cursor
            outputs = yield from reader.read(_block(ends))
            for output in outputs:
                if index in output.fresh:
                    outcome = parts(client, self._call, output)[index - output.index]
                    value: R = yield from value_at(client, self._call, index, outcome)
                    return value
            self._check_progress(reader, index)
            # What moved the cursor, forwards or back to the start, may have left more to read.
            if ends is not None and _left(ends) <= 0 and reader.cursor == before:
                raise TimeoutError(f"call {self._call} has no result for input {index} yet")

    def _check_progress(self, reader: OutputReader, index: int) -> None:
        record = reader.record
        if record is None or record.total is None or index < record.total:
            return
        raise OutputExpiredError(
            f"call {self._call} has {record.total} inputs, none of index {index}"
        )

    def _graph(self) -> Op[list[InputInfo]]:
        from qmodal.functions.graph import graph_of

        return (yield from graph_of(current(), self._call))

    def _count(self) -> Op[int]:
        if self._num_inputs is None:
            record = yield from current().calls.record(self._call)
            if record is None:
                raise OutputExpiredError(f"call {self._call} expired or never existed")
            if record.total is None:
                return record.submitted
            self._num_inputs = record.total
        return self._num_inputs

    def _cancel(self, terminate_containers: bool = False) -> Op[None]:
        client = current()
        running = yield from client.calls.cancel(self._call)
        yield from client.calls.tell_cancelled(running, kill=terminate_containers)


def _left(ends: float) -> float:
    return max(0.0, ends - time.monotonic())


def _block(ends: float | None) -> int:
    return BLOCK_MS if ends is None else int(min(BLOCK_MS, _left(ends) * 1000))


class _Get(Verb[Any, R]):
    __slots__ = ()

    def __call__(self, timeout: float | None = None, *, index: int = 0) -> R:
        """Do it and wait."""
        return super().__call__(timeout, index=index)

    async def aio(self, timeout: float | None = None, *, index: int = 0) -> R:
        """Do it without blocking the event loop."""
        return await super().aio(timeout, index=index)


class _Cancel(Verb[Any, None]):
    __slots__ = ()

    def __call__(self, terminate_containers: bool = False) -> None:
        """Do it and wait."""
        super().__call__(terminate_containers)

    async def aio(self, terminate_containers: bool = False) -> None:
        """Do it without blocking the event loop."""
        await super().aio(terminate_containers)
