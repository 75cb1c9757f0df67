"""MapCall: many inputs of one call, submitted in chunks, at most 1000 outstanding, results as they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

from qmodal.client import context
from qmodal.client.client import Client
from qmodal.exception import CallCancelled, Error, InvalidError, OutputExpiredError
from qmodal.functions.map.inputs import Arguments
from qmodal.functions.map.reorder import Failure, ReorderBuffer
from qmodal.functions.receipts import MOST_NOTED, forget_many, receipt_of, status_of
from qmodal.functions.results import (
    CANCELLED,
    OutputReader,
    carried,
    fetch_payload,
    open_output,
    outcomes_in,
    value_of,
)
from qmodal.functions.submission import (
    DELIVERED_TTL_MS,
    call_id_for,
    submission_of,
    submit,
    traced,
)
from qmodal.functions.target import FindTarget, Target
from qmodal.spec.pack_size import PackSizer
from qmodal.store.calls import GapError, UnknownPoolError
from qmodal.store.entries import Submission
from qmodal.store.results.outputs import Output
from qmodal.transport.operation import AtMost, CarriedError, Later, Meanwhile, Op
from qmodal.types import InputStatus
from qmodal.wire.outcome import Outcome, values

R = TypeVar("R")
T = TypeVar("T")
OUTSTANDING = 1000
CHUNK = 100
# Packs that are submitted together, and those that may be outstanding if they hold many inputs.
PACKS, PACKS_OUTSTANDING = 2, 12
STOP_SECONDS = 1.0  # what the end of a map that nobody reads on may take
# While inputs may still fail to come, their iterator's exception is looked for this often.
UNFED_MS = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOptions:
    """What a map does with its results; `resume` is the key or id of a call to go on with.

    `keep`: the results stay for others to fetch, and the end of this process ends nothing.
    """

    ordered: bool = True
    return_exceptions: bool = False
    keep: bool = False
    resume: str | None = None

    @property
    def is_kept(self) -> bool:
        """Whether the results stay: also those of a map that others may go on with."""
        return self.keep or self.resume is not None


class InputBatch(NamedTuple):
    """Consecutive inputs up to the index before `end`, and the submission made of them."""

    chunk: Sequence[Arguments]
    end: int
    is_last: bool
    submission: Submission


class MapCall(Generic[R]):
    """State of one map call: inputs submitted, outcomes received, results ready to yield.

    `submitted` and `is_fed` are written only by the thread or task that submits, `settled` and `failed`
    only by the one that receives; they may be the same.
    """

    def __init__(self, client: Client, target: Target, options: MapOptions) -> None:
        self._client = client
        self._target = target
        self._options = options
        self._reader = OutputReader(client, call_id_for(target, options.resume))
        # The reader of a map may take its time over each result: an hour, even if others have less.
        kept = int(client.settings.result_ttl * 1000)
        self._ttl = kept if options.is_kept else max(kept, DELIVERED_TTL_MS)
        self.pack_sizer = PackSizer(
            target.options,
            client.learned.of(target.pool),
            is_allowed=client.settings.packing,
        )
        self._span = traced(target, self.call)
        # Whoever names the same key makes the same call, also if they do so at the same time.
        self._digest = b"" if options.resume is None else self.call.encode()
        self.reorder = ReorderBuffer(is_ordered=options.ordered)
        # For the call graph of the input that makes the map: what did not succeed.
        self._parent = context.current_input_id() or ""
        self._unsuccessful: dict[int, InputStatus] = {}
        self.submitted = 0
        self.settled = 0
        self.failed = 0
        self.is_fed = False

    @classmethod
    def begun(cls, client: Client, find: FindTarget, options: MapOptions) -> Op[MapCall[Any]]:
        """The state of a new map, or of one that an earlier producer has begun."""
        call: MapCall[Any] = cls(client, (yield from find()), options)
        yield from call.attach()
        return call

    @property
    def call(self) -> str:
        """The id of the call."""
        return self._reader.call

    @property
    def target(self) -> Target:
        """Whom the inputs are for."""
        return self._target

    @property
    def room(self) -> int:
        """Inputs that may be submitted now: bounded also by results that wait for their turn."""
        most = max(OUTSTANDING, PACKS_OUTSTANDING * self.pack_sizer.size)
        return most - (self.submitted - self.settled) - self.reorder.waiting

    @property
    def chunk(self) -> int:
        """Inputs that are submitted, or results that are given out, between two looks at the server."""
        size = self.pack_sizer.size
        return size * max(CHUNK // size, PACKS)  # no pack is smaller than the others

    @property
    def is_idle(self) -> bool:
        """Whether nothing is outstanding: there will be no more room, if inputs became slower."""
        return self.settled >= self.submitted and not self.reorder.waiting

    @property
    def is_done(self) -> bool:
        """Whether every result was taken."""
        return self.is_fed and self.is_idle

    @property
    def block_ms(self) -> int:
        """Milliseconds that a read for results may wait on the server."""
        if self.reorder.is_ready:
            return 0
        return self._reader.block_ms if self.is_fed else UNFED_MS

    @contextmanager
    def traced(self) -> Iterator[None]:
        """What becomes of the map, as its span says it; that ends with the block."""
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._span.end(error, self.submitted)

    def attach(self) -> Op[None]:
        """Go on with a call that an earlier producer has begun; nothing, if a key has none yet.

        Raises InvalidError if it is another function's, CallCancelled if it was cancelled, and
        OutputExpiredError if there is no call of this id (any more).
        """
        if self._options.resume is None:
            return
        record = yield from self._client.calls.record(self.call)
        if record is None:
            if self._options.resume == self.call:
                raise OutputExpiredError(f"call {self.call} expired or never existed")
            return
        if record.pool != self._target.pool:
            raise InvalidError(f"call {self.call} is not one of {self._target.name!r}")
        if record.state == CANCELLED:
            raise CallCancelled(f"call {self.call} was cancelled")
        self._digest = record.digest
        self.submitted = record.submitted
        self.is_fed = record.total is not None

    def expect_service_time(self) -> Op[None]:
        """Size packs by the pool's service time, if this process knows nothing of its inputs."""
        if not self.pack_sizer.is_ignorant:
            return
        service_time = yield from self._client.pools.service_time(self._target.pool)
        self.pack_sizer.expect(service_time)

    def feed(self, chunk: Sequence[Arguments], *, is_last: bool) -> Op[None]:
        """Submit the next inputs, without those that another producer of this call has submitted."""
        while chunk or (is_last and (self.submitted or self._options.is_kept)):
            try:
                yield from self._feed_chunk(chunk, is_last=is_last)
                break
            except GapError:
                lead = yield from self._lead()
                if lead <= 0:
                    raise
            self.submitted += min(lead, len(chunk))
            if lead > len(chunk):
                break
            chunk = chunk[lead:]
        self.is_fed = is_last

    def _feed_chunk(self, chunk: Sequence[Arguments], *, is_last: bool) -> Op[None]:
        batch = self.batch(chunk, first=self.submitted, is_last=is_last)
        try:
            yield from submit(self._client, self._target, batch.submission)
        except GapError:
            raise
        except BaseException:
            self.submitted = batch.end  # perhaps; `stop` ends what is there
            raise
        self.submitted = batch.end

    def batch(self, chunk: Sequence[Arguments], *, first: int, is_last: bool) -> InputBatch:
        """The inputs from index `first` on, ready to be sent; raises as `submission_of`."""
        self.pack_sizer.count(first + len(chunk))
        submission = submission_of(
            self._client,
            self._target,
            chunk,
            call=self.call,
            first=first,
            total=first + len(chunk) if is_last else None,
            pack=self.pack_sizer.size,
            trace=self._span.trace,
        )
        submission.ttl = self._ttl
        if self._digest:
            submission.digest = self._digest
        self._digest = submission.digest
        return InputBatch(chunk, first + len(chunk), is_last, submission)

    def _lead(self) -> Op[int]:
        """How many inputs more than this one another producer has submitted."""
        record = yield from self._client.calls.record(self.call)
        return 0 if record is None else record.submitted - self.submitted

    def submit(self, batch: InputBatch, *, meanwhile: Meanwhile) -> Op[None]:
        """Submit the batch; `meanwhile` as in `Exchange`."""
        submitting = self._client.calls.submit(batch.submission, meanwhile=meanwhile)
        yield from self._submitted(batch, submitting)

    def submit_and_receive(
        self, batch: InputBatch, *, block: int, meanwhile: Meanwhile
    ) -> Op[None]:
        """Submit the batch and take in results, in one round trip."""
        cursor = self._reader.cursor
        request = self._client.calls.request(
            batch.submission, cursor=cursor, block=block, meanwhile=meanwhile
        )
        outputs = yield from self._submitted(batch, request)
        self._reader.quiet_ms += block
        yield from self._take_in(self._reader.accept(outputs or []))

    def _submitted(self, batch: InputBatch, submitting: Op[T]) -> Op[T | None]:
        """What `submitting` returns; None if the batch had to be submitted by `feed` instead."""
        try:
            result = yield from submitting
        except (UnknownPoolError, GapError):
            pass  # not from here: in eager mode user code runs, and its errors have no such context
        except BaseException:
            self.submitted = batch.end  # perhaps; `stop` ends what is there
            raise
        else:
            self.submitted, self.is_fed = batch.end, batch.is_last
            return result
        yield from self.feed(batch.chunk, is_last=batch.is_last)
        return None

    def receive(self, block: int) -> Op[None]:
        """Take in results; a failed input is kept as its exception."""
        outputs = yield from self._reader.read(block)
        yield from self._take_in(outputs)

    def _take_in(self, outputs: list[Output]) -> Op[None]:
        for output in outputs:
            for index, outcome in self._put(output):
                yield from self._fetch(index, outcome)
            self.settled += len(output.fresh)
        if outputs and not self._options.is_kept:
            yield Later(self._client.calls.delivered_command(self.call, self._reader.cursor))

    def _put(self, output: Output) -> list[tuple[int, Outcome]]:
        """Take in what has come with the output; the outcomes whose payload may have to be fetched."""
        first, fresh = output.index, output.fresh
        try:
            outcome = open_output(self._client, self.call, output, None, self._target.name)
            self.pack_sizer.ran(outcome.took, outcome.size)
            if outcome.kind == "values":
                begin, end = fresh.start - outcome.first, fresh.stop - outcome.first
                self.reorder.put(fresh.start, values(outcome)[begin:end])
                return []
            outcomes = outcomes_in(outcome, output)
        except Exception as error:
            for failed in fresh:
                self._fail(failed, error)
            return []
        if outcome.kind != "mixed" and outcome.blob is None:
            self._put_value(first, outcome, outcome.payload)
            return []
        return [(index, outcomes[index - first]) for index in fresh]

    def _fetch(self, index: int, outcome: Outcome) -> Op[None]:
        try:
            payload = yield from fetch_payload(
                self._client, self.call, index, outcome, is_delivery=not self._options.is_kept
            )
        except Error as error:  # but what the process is interrupted with ends the map
            self._fail(index, error)
        else:
            self._put_value(index, outcome, payload)

    def _put_value(self, index: int, outcome: Outcome, payload: bytes) -> None:
        try:
            value = value_of(self._client, outcome, payload, self.call, index)
            self.reorder.put(index, [value])
        except CarriedError as wrapped:
            self._fail(index, wrapped.error)
        except BaseException as error:  # also SystemExit, which user code may raise
            self._fail(index, error)

    def _fail(self, index: int, error: BaseException) -> None:
        is_fatal = not (self._options.return_exceptions and issubclass(type(error), Exception))
        self.reorder.fail(index, Failure(error, is_fatal=is_fatal))
        self.failed += 1
        if self._parent and len(self._unsuccessful) < MOST_NOTED:
            self._unsuccessful[index] = status_of(error)

    def take(self) -> list[R]:
        """Results whose turn it is, none twice; raises the first fatal failure, `CarriedError` if need be."""
        if self.reorder.fatal is not None:
            raise carried(self.reorder.fatal)
        return self.reorder.take()

    def prolong(self) -> Op[None]:
        """More inputs will come, some day: the call must not expire until then."""
        if self.submitted:
            yield from self._client.calls.prolong(self.call, DELIVERED_TTL_MS)

    def stop(self, *, spare: bool = True) -> Op[None]:
        """Nobody wants the rest: cancel what is queued, and forget the call; it raises nothing.

        Without `spare` what runs is cancelled, too.
        """
        if self._options.is_kept:
            return
        if self.settled < self.submitted or self._parent:
            yield AtMost(self._leave(spare=spare), STOP_SECONDS)
        else:
            yield from self._forget()

    def _leave(self, *, spare: bool) -> Op[None]:
        if self.settled < self.submitted:
            running = yield from self._client.calls.cancel(self.call, spare=spare)
            yield from self._client.calls.nudge_cancelled(running)
        yield from self._forget()

    def _forget(self) -> Op[None]:
        missing = islice(self._reader.seen.missing(self.submitted), MOST_NOTED)
        receipt = receipt_of(
            self.submitted, self._unsuccessful | dict.fromkeys(missing, InputStatus.TERMINATED)
        )
        yield from forget_many(
            self._client, self._parent, self.call, pool=self._target.pool, receipt=receipt
        )
