"""FunctionCall: the handle of one call, in any process; and the results of several calls together."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from qmodal.client import deprecation as legacy
from qmodal.client.client import Client, current
from qmodal.client.verb import Stream, Verb, stream_verb, verb
from qmodal.exception import InvalidError, OutputExpiredError
from qmodal.functions.results import (
    OutputReader,
    PlainValue,
    outcomes_for,
    resolve,
    value_at,
)
from qmodal.store.results.outputs import CallRecord, Output
from qmodal.transport.operation import Op
from qmodal.wire.outcome import Outcome

if TYPE_CHECKING:
    from qmodal.types import InputInfo, InputStatus

R = TypeVar("R")
T = TypeVar("T")


class OrderedResults(Stream[Any]):
    """Results of a call in index order; those that arrive early wait for their turn."""

    def __init__(self, call: FunctionCall[Any], start: int, end: int | None) -> None:
        self._call = call
        self._next = start
        self._end = end
        self._reader: OutputReader | None = None
        self._arrived: dict[int, Output] = {}
        # The output that was opened last, as its inputs are asked for one after another.
        self._opened: tuple[Output | None, list[Outcome | PlainValue]] = (None, [])

    def next(self) -> Op[list[Any] | None]:
        """The next result; raises what its input raised, and ValueError for a bad range."""
        if self._reader is None:
            count = yield from self._call.num_inputs.op()
            self._end = _checked_end(self._next, self._end, count)
            self._reader = OutputReader(current(), self._call.object_id)
        if self._next == self._end:
            return None
        index, self._next = self._next, self._next + 1
        return [(yield from self._result(self._reader, index))]

    def _result(self, reader: OutputReader, index: int) -> Op[Any]:
        while index not in self._arrived:
            for output in (yield from reader.read(reader.block_ms)):
                self._arrived |= {at: output for at in output.fresh if at >= index}
        output = self._arrived.pop(index)
        if self._opened[0] is not output:
            self._opened = output, outcomes_for(reader.client, reader.call, output)
        outcome = self._opened[1][index - output.index]
        return (yield from value_at(reader.client, reader.call, index, outcome))


def _checked_end(start: int, end: int | None, count: int) -> int:
    stop = count if end is None else end
    if not 0 <= start <= stop <= count:
        raise ValueError(f"start {start} and end {end} are no range within {count} inputs")
    return stop


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
        block = min(reader.block_ms for reader in waiting.values())
        outputs = yield from _read(client, waiting, block)
        for name, fresh in outputs.items():
            for output in fresh:
                if 0 in output.fresh and name in waiting:
                    found[name] = yield from resolve(client, name, output)
                    del waiting[name]
        if not outputs:
            for reader in waiting.values():  # raises for a call that is gone
                yield from reader.check(block)
    return [found[name] for name in names]


def _read(
    client: Client, waiting: dict[str, OutputReader], block: int
) -> Op[dict[str, list[Output]]]:
    """New outputs of several calls, once there are any."""
    cursors = {name: reader.cursor for name, reader in waiting.items()}
    found = yield from client.calls.read_several(cursors, block=block)
    return {name: waiting[name].accept(outputs) for name, outputs in found.items()}


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

    @verb
    def get(self, timeout: float | None = None, *, index: int = 0) -> Op[R]:
        """Wait for the result of an input, at most `timeout` seconds.

        Raises what the input raised; the builtin TimeoutError if it is not ready in time (0 polls
        once), OutputExpiredError if there is no such result (any more).
        """
        if index < 0:
            raise ValueError(f"index {index} is negative; inputs count from 0")
        client = current()
        reader = OutputReader(client, self._call)
        ends = None if timeout is None else time.monotonic() + timeout
        while True:
            before = reader.cursor
            outputs = yield from reader.read(_block_ms(reader, ends))
            for output in outputs:
                if index in output.fresh:
                    outcome = outcomes_for(client, self._call, output)[index - output.index]
                    value: R = yield from value_at(client, self._call, index, outcome)
                    return value
            self._check_index(reader, index)
            # What moved the cursor, forwards or back to the start, may have left more to read.
            if ends is not None and _seconds_left(ends) <= 0 and reader.cursor == before:
                raise TimeoutError(f"call {self._call} has no result for input {index} yet")

    @verb
    def num_inputs(self) -> Op[int]:
        """How many inputs the call has (so far, while a map still submits)."""
        if self._num_inputs is None:
            record = yield from self._record()
            if record.total is None:
                return record.submitted
            self._num_inputs = record.total
        return self._num_inputs

    @verb
    def cancel(self, terminate_containers: bool = False) -> Op[None]:
        """Cancel all inputs, queued and running, without retry; `get` then raises CallCancelled.

        Once it returns, none of them starts. Those that run are interrupted, which user code may
        delay or resist: after 5 s its container is killed. A worker that does not answer within a
        second, because it or its box stands still or is cut off, is not waited for: what its
        containers had claimed may still start there, for a moment after it goes on.
        """
        client = current()
        running = yield from client.calls.cancel(self._call)
        yield from client.calls.tell_cancelled(running, kill=terminate_containers)

    @stream_verb
    def iter(self, *, start: int = 0, end: int | None = None) -> Stream[R]:
        """The results of inputs `start` to `end` (half-open) in index order.

        Raises what a failed input raised when its turn comes, and ValueError for a bad range.
        """
        return OrderedResults(self, start, end)

    # `FunctionCall.gather(a, b)`: the results of several calls; see `Gather`.
    gather: ClassVar[Gather] = Gather()

    @verb
    def done(self) -> Op[bool]:
        """Whether all inputs have ended, well or not. Raises OutputExpiredError for a call that is gone."""
        return (yield from self._record()).is_finished

    @verb
    def status(self) -> Op[InputStatus]:
        """PENDING until all inputs have ended; then SUCCESS, or what became of the first that did not succeed.

        Raises OutputExpiredError for a call that is gone.

        >>> f.spawn(3).status().name
        'PENDING'
        """
        from qmodal.functions.graph import status_of_call

        record = yield from self._record()
        return (yield from status_of_call(current(), self._call, record))

    def _record(self) -> Op[CallRecord]:
        record = yield from current().calls.record(self._call)
        if record is None:
            raise OutputExpiredError(f"call {self._call} expired or never existed")
        return record

    @verb
    def get_call_graph(self) -> Op[list[InputInfo]]:
        """The call's inputs, and below each the inputs of the calls that it made."""
        from qmodal.functions.graph import graph_of

        return (yield from graph_of(current(), self._call))

    def _check_index(self, reader: OutputReader, index: int) -> None:
        record = reader.record
        if record is None or record.total is None or index < record.total:
            return
        raise OutputExpiredError(
            f"call {self._call} has {record.total} inputs, none of index {index}"
        )


def _seconds_left(ends: float) -> float:
    return max(0.0, ends - time.monotonic())


def _block_ms(reader: OutputReader, ends: float | None) -> int:
    block = reader.block_ms
    return block if ends is None else int(min(block, _seconds_left(ends) * 1000))
