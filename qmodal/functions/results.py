"""Results: reads a call's outputs, in any process, and turns them into values and exceptions."""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from qmodal.client.client import Client
from qmodal.exception import (
    CallCancelled,
    DeserializationError,
    ExecutionError,
    FunctionTimeoutError,
    OutputExpiredError,
    RemoteError,
    ResourceExhaustedError,
    WorkerLost,
    clause,
)
from qmodal.store.results.outputs import CANCELLED_INDEX, CallRecord, Output
from qmodal.transport.operation import CarriedError, Later, Op
from qmodal.wire.envelope import MalformedError
from qmodal.wire.foreign import describe
from qmodal.wire.outcome import Outcome, open_outcome, parted, values
from qmodal.wire.payload import load_value
from qmodal.wire.remote_error import load_exception
from qmodal.wire.signing import BadSignatureError, UnknownKeyError, digest_of

T = TypeVar("T")
# A read waits for so long at first, then until the call has been waited for as long as nobody is told why (the
# second number), and from then on for the third.
FIRST_BLOCK_MS, TOLD_AFTER_MS, BLOCK_MS = 1000, 3000, 5000
CANCELLED = "cancelled"


class PlainValue(NamedTuple):
    """The value of one input of a pack, unpacked with the others."""

    value: Any


class OutputReader:
    """Reads one call's outputs in the order of their arrival, each index once.

    A read that brings nothing asks the record: a lost hint, a server that was rolled back or a
    call that is gone leave nobody waiting. Nor does one that nobody works on, without a word (`client.waiting`).
    """

    def __init__(self, client: Client, call: str) -> None:
        self.client = client
        self.call = call
        self.cursor = b"0"
        self.seen = IndexSet()
        self.record: CallRecord | None = None
        self.quiet_ms = 0  # for how long reads have brought nothing

    @property
    def block_ms(self) -> int:
        """For how long the next read should wait."""
        return TOLD_AFTER_MS - self.quiet_ms if self.quiet_ms < TOLD_AFTER_MS else BLOCK_MS

    def accept(self, outputs: list[Output]) -> list[Output]:
        """The outputs not seen before; raises CallCancelled if the call was cancelled."""
        fresh = []
        if outputs:
            self.quiet_ms = 0
        for output in outputs:
            self.cursor = output.entry
            if output.index == CANCELLED_INDEX:
                raise CallCancelled(f"call {self.call} was cancelled")
            if output.is_item or output.is_foreign:
                continue
            parts = self.seen.add(output.index, output.count)
            if parts and len(parts[0]) == output.count:
                fresh.append(output)
            else:
                fresh += [replace(output, known=part) for part in parts]
        return fresh

    def read(self, block: int) -> Op[list[Output]]:
        """New outputs, waiting up to `block` ms; [] if there were none.

        Raises OutputExpiredError for a call that is gone, CallCancelled for a cancelled one.
        """
        outputs = yield from self.client.calls.read(self.call, self.cursor, block=block)
        fresh = self.accept(outputs)
        if not outputs:
            yield from self.check(block)
        return fresh

    def check(self, waited: int) -> Op[None]:
        """After `waited` ms without outputs: raises as `read`, or starts from 0 if there should be some."""
        self.quiet_ms += waited
        record = yield from self.client.calls.record(self.call)
        if record is None:
            raise OutputExpiredError(
                f"there are no outputs of call {self.call}: they expired, were delivered already, "
                "or the call never existed"
            )
        if record.state == CANCELLED:
            raise CallCancelled(f"call {self.call} was cancelled")
        if record.settled > len(self.seen):
            self.cursor = b"0"
        elif self.quiet_ms >= TOLD_AFTER_MS:
            yield from self.client.waits.look(record.pool)
        self.record = record


def resolve(
    client: Client,
    call: str,
    output: Output,
    request: bytes | None = None,
    *,
    is_delivery: bool = False,
) -> Op[Any]:
    """The value of an output (of the first input that it is for); raises what the input raised.

    `is_delivery`: nobody asks for it again, so what was stored apart goes.
    """
    outcome = outcomes_for(client, call, output, request)[0]
    return (yield from value_at(client, call, output.index, outcome, is_delivery=is_delivery))


def outcomes_for(
    client: Client, call: str, output: Output, request: bytes | None = None
) -> list[Outcome | PlainValue]:
    """The outcome of each input that an output is for; raises as `open_output`."""
    outcome = open_output(client, call, output, request)
    try:
        if outcome.kind == "values":
            return list(map(PlainValue, _slice_for(values(outcome), outcome, output)))
        return [*outcomes_in(outcome, output)]
    except MalformedError as error:
        raise ExecutionError(f"the results of {call} were not opened: {error}") from error


def outcomes_in(outcome: Outcome, output: Output) -> list[Outcome]:
    """One for each input that the output is for; raises MalformedError."""
    if outcome.kind == "mixed":
        return _slice_for(parted(outcome), outcome, output)
    if output.count > 1:
        raise MalformedError(f"one outcome of {output.count} inputs")
    return [outcome]


def _slice_for(found: list[T], outcome: Outcome, output: Output) -> list[T]:
    """What is for the output's inputs: all, unless others of the outcome's ended elsewhere."""
    begin = output.index - outcome.first
    return found if len(found) == output.count else found[begin : begin + output.count]


def value_at(
    client: Client,
    call: str,
    index: int,
    outcome: Outcome | PlainValue,
    *,
    is_delivery: bool = False,
) -> Op[Any]:
    """The value of one input; raises what it raised."""
    if isinstance(outcome, PlainValue):
        return outcome.value
    payload = yield from fetch_payload(client, call, index, outcome, is_delivery=is_delivery)
    return value_of(client, outcome, payload, call, index)


def fetch_payload(
    client: Client, call: str, index: int, outcome: Outcome, *, is_delivery: bool = False
) -> Op[bytes]:
    """The payload of an outcome, wherever it is stored."""
    if outcome.blob is None:
        return outcome.payload
    payload = yield from fetch_blob(client, call, index, outcome.blob)
    if is_delivery:
        yield Later(client.calls.forget_result_command(call, index))
    return payload


def open_output(
    client: Client, call: str, output: Output, request: bytes | None, name: str = ""
) -> Outcome:
    """The outcome in an output, if it answers this input; raises what a script noted instead.

    `name`: of the function, as far as it is known; a script's note does not say it.
    """
    if output.signed is None:
        where = f"input {output.index} of {call}"
        raise _noted_error(output.note or "", f"{name}, {where}" if name else where)
    try:
        return open_outcome(
            output.signed,
            client.signer,
            call=call,
            index=output.index,
            count=output.count,
            request=request,
        )
    except MalformedError as error:
        raise ExecutionError(f"the result of {call} was not opened: {error}") from error
    except (BadSignatureError, UnknownKeyError) as error:
        raise ExecutionError(
            f"the result of {call} was not signed with this process's key ({clause(error)}); it was not "
            "opened. Do all machines use the same QMODAL_SIGNING_KEY?"
        ) from error


def fetch_blob(client: Client, call: str, index: int, digest: bytes) -> Op[bytes]:
    """A result's payload that is not in its outcome; raises OutputExpiredError if it is gone."""
    stored = yield from client.calls.result_blob(call, index)
    if stored is None:
        raise OutputExpiredError(f"the stored result of {call} is gone")
    if digest_of(stored) != digest:
        raise DeserializationError(f"the stored result of {call} was changed; it was not opened")
    return stored


def value_of(client: Client, outcome: Outcome, payload: bytes, call: str, index: int) -> Any:
    """The value of an outcome; raises what it stands for if it is none, `CarriedError` if need be.

    What is raised names the call, and the index of the input in it.
    """
    plain_only = client.settings.payloads == "plain"
    if outcome.kind == "value":
        return load_value(outcome.format, payload, plain_only=plain_only)
    where = f"input {index} of {call}"
    match outcome.kind:
        case "error":
            raise carried(load_exception(payload, plain_only=plain_only, where=where))
        case "timeout":
            raise FunctionTimeoutError(_placed(payload, where))
        case "lost":
            raise WorkerLost(_placed(payload, where))
        case "unstored":
            raise ResourceExhaustedError(_placed(payload, where))
        case "cancelled":
            raise CallCancelled(_placed(payload, where))
        case "values" | "mixed":
            raise ExecutionError("the outcome of several inputs stands where that of one should be")


def _placed(text: bytes, where: str) -> str:
    return f"{text.decode(errors='replace')} ({where})"


def carried(error: BaseException) -> BaseException:
    """What an operation raises to raise this at its caller.

    A StopIteration ends a generator, and in a coroutine it is a RuntimeError. A CancelledError would
    there be taken for the end of the caller's own task, whose parent would not hear of the failure.
    """
    kind = type(error)
    if issubclass(kind, StopIteration):
        return CarriedError(error, RuntimeError("coroutine raised StopIteration"))
    asyncio = sys.modules.get("asyncio")  # where that type comes from, if there is any
    if asyncio is not None and issubclass(kind, asyncio.CancelledError):
        return CarriedError(error, _task_error(error))
    return error


def _task_error(error: BaseException) -> RemoteError:
    """What a task of the caller's sees instead of an input's own CancelledError."""
    return RemoteError(f"the input failed with an error of its own: {describe(error)}")


def _noted_error(note: str, where: str) -> Exception:
    """The exception for an input that a script ended, without an outcome from a container."""
    kind, separator, text = note.partition(": ")
    if separator and kind == "init":
        return ExecutionError(f"the container of {where} could not be started: {text}")
    if separator and kind in ("stopped", "unprocessable"):
        return RemoteError(f"{text} ({where})")
    return WorkerLost(f"{where} was given up after its container was lost: {note}")


class IndexSet:
    """A set of integers that fills up nearly in order."""

    __slots__ = ("_bounds", "_count")

    def __init__(self) -> None:
        # Where runs begin and end, in turn: [0, 5, 7, 8] holds 0 to 4, and 7.
        self._bounds: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, index: int) -> bool:
        return bisect_right(self._bounds, index) % 2 == 1

    def missing(self, end: int) -> Iterator[int]:
        """Those from 0 to before `end` that are not in it."""
        edges = [0, *self._bounds, end]
        for begin, until in zip(edges[::2], edges[1::2], strict=False):
            yield from range(begin, min(until, end))

    def add(self, index: int, count: int = 1) -> list[range]:
        """Take in `count` numbers from `index` on; those of them that were not there."""
        bounds, end = self._bounds, index + count
        if bounds and bounds[-1] == index:  # in order, as nearly always
            bounds[-1] = end
            self._count += count
            return [range(index, end)]
        first, last = bisect_left(bounds, index), bisect_right(bounds, end)
        # Bounds between `first` and `last` lie within what is added, or at its edges.
        edges = bounds[first:last]
        begin = index if first % 2 == 0 else None
        fresh = []
        for edge in edges:
            if begin is None:
                begin = edge
            else:
                fresh.append(range(begin, edge))
                begin = None
        if begin is not None:
            fresh.append(range(begin, end))
        bounds[first:last] = [index] * (first % 2 == 0) + [end] * (last % 2 == 0)
        fresh = [each for each in fresh if each]
        self._count += sum(map(len, fresh))
        return fresh
