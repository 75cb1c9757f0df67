"""All that is known of one call: its record, its inputs, how they ended, and what they have called."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from qmodal.cli.commands.finding.calls import failures_in
from qmodal.cli.commands.finding.inputs import shown_arguments, shown_value
from qmodal.cli.commands.finding.scope import Scope, app_names, observed
from qmodal.client.client import Client
from qmodal.client.waiting.why import fleet_state, reason_of
from qmodal.exception import Error
from qmodal.store.history.logs import LogChunk
from qmodal.store.results.failures import Failure
from qmodal.store.results.outputs import CANCELLED_INDEX, CallRecord, Output
from qmodal.store.watch.observing import Observation, QueuedEntry
from qmodal.transport.operation import Op
from qmodal.wire.ids import input_id
from qmodal.wire.outcome import Outcome, open_outcome, parted, told, values
from qmodal.wire.plain import pack

# Entries of a pool's streams, and of a call's outputs, that are looked through for one call.
MOST_ENTRIES, MOST_OUTPUTS = 1000, 10_000
# Log entries that are looked through for the lines of one input, and how many of its lines are shown.
MOST_CHUNKS, MOST_LINES = 2000, 50
# A container's output is written down this much later, at most.
LATE_MS = 2000


@dataclass(slots=True, kw_only=True)
class InputDetails:
    """One input as people see it; times in ms since 1970, `took` in microseconds."""

    index: int
    state: str
    reason: str = ""
    traceback: str = ""
    container: str = ""
    started: int = 0
    took: int = 0
    deliveries: int | None = None
    retries: int | None = None
    lost: int | None = None
    arguments: str = "<not kept>"
    result: str | None = None
    printed: list[str] = field(default_factory=list)
    # Nobody can tell which of what ran in its container then has printed that.
    is_printed_together: bool = False


@dataclass(slots=True, kw_only=True)
class CallDetails:
    """One call as people see it; its record is gone (None) once its results were delivered or have expired."""

    call: str
    record: CallRecord | None
    pool: Observation | None
    app: str = ""
    app_name: str = ""
    inputs: dict[int, InputDetails] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    children: list[tuple[int, str]] = field(default_factory=list)
    is_cancelled: bool = False
    waits: str = ""  # why those of its inputs do that wait


def details_of(client: Client, call: str) -> Op[CallDetails | None]:
    """What is known of a call; None if that is nothing."""
    record = yield from client.calls.record(call)
    failures = yield from _failures_of(client, call, record)
    if record is None and not failures:
        return None
    name = record.pool if record is not None else failures[0].pool
    pool = (yield from observed(client, [name])).get(name)
    app = pool.app if pool is not None else failures[0].app if failures else ""
    found = CallDetails(call=call, record=record, pool=pool, app=app, failures=failures)
    found.app_name = (yield from app_names(client, [app])).get(app, app)
    if record is not None:
        yield from _add_outputs(client, found)
        yield from _add_queued(client, found, record.pool)
    if pool is not None and any(each.state == "waiting" for each in found.inputs.values()):
        state = yield from fleet_state(client.fleet, client.boxes, client.server)
        found.waits = reason_of(pool, state).sentence(pool.pool)
    for failure in failures:
        _add_failure(found, failure)
    found.children = [(child.index, child.call) for child in (yield from client.children.of(call))]
    return found


def _failures_of(client: Client, call: str, record: CallRecord | None) -> Op[list[Failure]]:
    """The failed inputs of the call, each once, by index."""
    scope = Scope()
    if record is not None:
        pool = (yield from observed(client, [record.pool])).get(record.pool)
        if pool is not None:
            scope = Scope(app=pool.app, function=pool.function)
    # More than one call, so that all notes are looked through: those of this one may be far apart.
    found = yield from failures_in(
        client, scope, keep=lambda each: each if each.call == call else None, calls=2
    )
    own = {failure.index: failure for failure in reversed(found)}
    return [own[index] for index in sorted(own)]


def _add_failure(found: CallDetails, failure: Failure) -> None:
    details = found.inputs.setdefault(
        failure.index, InputDetails(index=failure.index, state=failure.kind)
    )
    details.reason = details.reason or failure.reason
    details.traceback = details.traceback or failure.trace
    details.container = details.container or failure.container
    details.started = details.started or failure.started
    details.took = details.took or failure.took
    details.retries, details.lost = failure.retries, failure.lost


def _add_outputs(client: Client, found: CallDetails) -> Op[None]:
    cursor, read = b"0", 0
    while read < MOST_OUTPUTS:
        outputs = yield from client.calls.read(found.call, cursor, block=0, count=1000)
        for output in outputs:
            found.is_cancelled = found.is_cancelled or output.index == CANCELLED_INDEX
            if output.index >= 0 and not output.is_item:
                for details in _ended(client, found.call, output):
                    found.inputs[details.index] = details
        if not outputs:
            return
        read, cursor = read + len(outputs), outputs[-1].entry


def _ended(client: Client, call: str, output: Output) -> Iterable[InputDetails]:
    """How each input has ended that the output is for."""
    if output.signed is None:
        reason, _ = told("lost", (output.note or "").encode())
        for index in output.fresh:
            yield InputDetails(index=index, state="lost", reason=reason)
        return
    try:
        outcome = open_outcome(
            output.signed, client.signer, call=call, index=output.index, count=output.count
        )
        outcomes = _each(outcome)
    except Error as error:
        yield InputDetails(index=output.index, state="unreadable", reason=str(error))
        return
    for index in output.fresh:
        yield _of_outcome(index, outcomes[index - outcome.first])


def _each(outcome: Outcome) -> list[Outcome]:
    """An outcome for each input that this one is for."""
    if outcome.kind == "mixed":
        return parted(outcome)
    if outcome.kind == "values":
        one = outcome._replace(kind="value", size=1)
        return [one._replace(payload=pack(value)) for value in values(outcome)]
    return [outcome]


def _of_outcome(index: int, outcome: Outcome) -> InputDetails:
    details = InputDetails(
        index=index,
        state="succeeded" if outcome.kind == "value" else outcome.kind,
        container=outcome.container,
        started=outcome.started,
        took=outcome.took,
    )
    if outcome.kind == "value":
        details.result = shown_value(outcome)
    elif outcome.blob is None:
        details.reason, details.traceback = told(outcome.kind, outcome.payload)
    return details


def _add_queued(client: Client, found: CallDetails, pool: str) -> Op[None]:
    for entry in (yield from client.observing.queue(pool, count=MOST_ENTRIES)):
        if entry.claimed.call == found.call:
            first = entry.claimed.first
            for index in range(first, first + entry.claimed.size):
                found.inputs.setdefault(index, _of_entry(index, entry))


def _of_entry(index: int, entry: QueuedEntry) -> InputDetails:
    return InputDetails(
        index=index,
        state=entry.place,
        container=entry.container,
        deliveries=entry.deliveries or None,
        retries=entry.claimed.retries,
        lost=entry.claimed.lost,
    )


def completed(client: Client, found: CallDetails, details: InputDetails) -> Op[InputDetails]:
    """The input with its arguments, and with what it has printed, as far as that can be told."""
    signed = yield from _envelope_of(client, found, details.index)
    arguments = yield from shown_arguments(client, signed, details.index)
    chunks = yield from _chunks_of(client, found.app, details)
    own = [each for each in chunks if (each.call, each.index) == (found.call, details.index)]
    shared = [
        each
        for each in chunks
        if each.container == details.container
        and (not each.call or (each.call == found.call and each.index < 0))
    ]
    return replace(
        details,
        arguments=arguments,
        printed=_last_lines(own or shared),
        is_printed_together=bool(shared and not own),
    )


def _envelope_of(client: Client, found: CallDetails, index: int) -> Op[bytes]:
    for failure in found.failures:
        if failure.index == index:
            return failure.envelope
    if found.record is None:
        return b""
    for entry in (yield from client.observing.queue(found.record.pool, count=MOST_ENTRIES)):
        one = entry.claimed
        if one.call == found.call and one.first <= index < one.first + one.size:
            return one.envelope
    return b""


def _chunks_of(client: Client, app: str, details: InputDetails) -> Op[list[LogChunk]]:
    """What was printed while the input ran; as long as it has not ended, the newest of all."""
    if not (app and details.container):
        return []
    if not details.started:
        return (yield from client.logs.tail(app, MOST_CHUNKS))
    ends = details.started + details.took // 1000 + LATE_MS
    return (yield from client.logs.between(app, str(details.started), str(ends), count=MOST_CHUNKS))


def _last_lines(chunks: Iterable[LogChunk]) -> list[str]:
    text = b"".join(each.text for each in chunks)
    return text.decode(errors="replace").splitlines()[-MOST_LINES:]


def as_plain(found: CallDetails, inputs: Iterable[InputDetails]) -> dict[str, Any]:
    """The call as JSON shows it."""
    record, pool = found.record, found.pool
    return {
        "call": found.call,
        "app": found.app,
        "app_name": found.app_name,
        "pool": pool.pool if pool else "",
        "function": pool.label if pool else found.failures[0].function if found.failures else "",
        "submitted": record.submitted if record else None,
        "settled": record.settled if record else None,
        "created": created_of(found),
        "parent": record.parent if record else "",
        "waits": found.waits,
        "failed": [each.index for each in found.failures],
        "inputs": [
            {
                "input": input_id(found.call, each.index),
                **{name: getattr(each, name) for name in InputDetails.__slots__},
            }
            for each in inputs
        ],
        "children": [{"index": index, "call": call} for index, call in found.children],
    }


def created_of(found: CallDetails) -> int:
    """When the call was made, in ms since 1970; 0 if nobody knows."""
    if found.record is not None:
        return found.record.created
    return min((each.created for each in found.failures if each.created), default=0)
