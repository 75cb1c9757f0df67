"""The call that a request becomes: one input of a pool, and what becomes of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import msgpack

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.services.gateway.exchange.responses import RETRY, plain
from qmodal.services.gateway.routing.endpoint import WebTarget
from qmodal.store.calls import UnknownPoolError
from qmodal.store.entries import Submission
from qmodal.store.results.outputs import CANCELLED_INDEX, Output, parse_reply
from qmodal.transport.aio_driver import AsyncDriver
from qmodal.transport.operation import Op
from qmodal.transport.sharing.pending_call import PendingCall
from qmodal.transport.sharing.pending_reply import PendingReply
from qmodal.wire.envelope import BLOB_BYTES, MalformedError, pack_head, seal
from qmodal.wire.ids import new_call_id
from qmodal.wire.outcome import Outcome, open_outcome
from qmodal.wire.signing import digest_of, mac_of
from qmodal.wire.web import Response, unpack_response

# What nobody has fetched by then is deleted.
RESULT_MS = 3_600_000
# How long the reply stream alone is waited for before the call's outputs are looked at.
FIRST_SECONDS, BLOCK_SECONDS = 1.0, 5.0
# A server that loses each opening of a pool again, ten times in a row, is not waited for.
MOST_OPENINGS = 10


class Ended(NamedTuple):
    """How a call has ended: with the response that its container gave, or that a gateway gives instead.

    `is_streamed`: the response goes, or went, through the inboxes.
    """

    response: Response
    is_value: bool = True
    has_blob: bool = False

    @property
    def is_streamed(self) -> bool:
        """Whether the container has streamed the response, or is about to."""
        return self.is_value and self.response.status == 0


def submission_for(
    client: Client, target: WebTarget, packed: bytes, trace: str | None
) -> Submission:
    """A call with the packed request as its only argument; `trace`: the one that the client belongs to."""
    now = time.time_ns() // 1_000_000
    call = new_call_id(target.shard)
    payload: bytes = msgpack.packb(((packed,), {}))
    head = pack_head(target.pool, call, target.method, now, trace)
    blobs: tuple[tuple[int, bytes], ...] = ()
    if len(payload) > BLOB_BYTES:
        blobs = ((0, payload),)
        sealed = seal(client.signer, head, (0, 1, "m", b"", digest_of(payload)))
    else:
        sealed = seal(client.signer, head, (0, 1, "m", payload, None))
    return Submission(
        call=call,
        pool=target.pool,
        digest=mac_of(sealed),
        envelopes=(sealed,),
        total=1,
        ttl=RESULT_MS,
        now=now,
        blobs=blobs,
    )


def reply_for(client: Client, driver: AsyncDriver, submission: Submission) -> PendingCall | None:
    """Have the outcome come by the reply stream; what sends the submission with others, unless it goes alone."""
    reader = driver.reply_reader(at_least=0)
    if reader is None:  # the loop ends
        return None
    call, name = submission.call, reader.reply_to
    stream = client.keys.replies(call, name)
    if submission.blobs:  # nobody shall wait behind a large request
        submission.pending_reply = PendingReply(reader, name, stream, call)
        return None
    pending = PendingCall(reader, name, stream, call)
    submission.pending_reply = pending
    pending.mergeable = client.calls.mergeable(submission)
    return pending


def at_once(
    client: Client, submission: Submission, content: Sequence[bytes] | None
) -> Ended | None:
    """The outcome in what the reply stream has brought, if it is a value; None for anything else."""
    if content is None or content[0] != b"0" or content[1] != b"o":
        return None
    try:
        outcome = open_outcome(
            content[2], client.signer, call=submission.call, index=0, request=submission.digest
        )
        if outcome.kind != "value" or outcome.format != "m" or outcome.blob is not None:
            return None
        return Ended(_response(outcome.payload))
    except Error:
        return None  # the operation finds it, too, and says what it means


class CallProgress:
    """What `outcome` has come to: whether the server has said that it has the input."""

    __slots__ = ("is_accepted",)

    def __init__(self) -> None:
        self.is_accepted = False


def outcome(
    client: Client,
    target: WebTarget,
    submission: Submission,
    progress: CallProgress,
    content: Sequence[bytes] | None,
) -> Op[Ended]:
    """Submit, unless that is done, and wait for the end of the call; `content`: what came for it so far."""
    outputs = [] if content is None else parse_reply(content)
    if not progress.is_accepted and content is None:
        outputs = yield from _submitted(client, target, submission)
    progress.is_accepted = True
    # It is not sent again; many large requests may wait for long.
    submission.envelopes = submission.blobs = ()
    while (found := _end_in(outputs)) is None:
        outputs = yield from _waited(client, submission)
    return (yield from _ended(client, submission.call, found, submission.digest))


def later_outcome(client: Client, call: str, cursor: bytes) -> Op[tuple[bytes, Ended | None]]:
    """The end of a call that another process may have submitted, and the next cursor; waits five seconds for it."""
    outputs = yield from client.calls.read(call, cursor, block=int(BLOCK_SECONDS * 1000))
    found = _end_in(outputs)
    if found is not None:
        return cursor, (yield from _ended(client, call, found, None))
    record = yield from client.calls.record(call)
    if record is None:
        return cursor, GONE
    return cursor, None


def abandoned(client: Client, call: str) -> Op[None]:
    """Nobody waits for it any more: end what is queued or runs, and forget the call."""
    running = yield from client.calls.cancel(call)
    yield from client.calls.nudge_cancelled(running)
    client.later(client.calls.forget_command(call, (0,)))


def _submitted(client: Client, target: WebTarget, submission: Submission) -> Op[list[Output]]:
    for _ in range(MOST_OPENINGS - 1):
        try:
            return (yield from _request(client, submission))
        except UnknownPoolError:
            yield from _opened(client, target)
    return (yield from _request(client, submission))


def _request(client: Client, submission: Submission) -> Op[list[Output]]:
    block = int(FIRST_SECONDS * 1000)
    if submission.pending_reply is None:
        return client.calls.request(submission, block=block, shared=True)
    # Expected before it is sent: what came earlier would be found by the next look only.
    return client.calls.request_together(submission, block=block)


def _opened(client: Client, target: WebTarget) -> Op[None]:
    spec = target.spec
    signed = spec.seal(client.signer)
    yield from client.pools.open(
        spec.pool, spec=signed, app=spec.app_id, function=spec.function, label=spec.label
    )


def _waited(client: Client, submission: Submission) -> Op[list[Output]]:
    """What has come for the call within five seconds; asks the server if nothing did."""
    call, pending, block = submission.call, submission.pending_reply, int(BLOCK_SECONDS * 1000)
    if pending is None:
        outputs = yield from client.calls.read(call, b"0", block=block)
    else:
        is_announced = (
            pending.has_arrived
        )  # a large outcome stays where it is, and nothing more comes
        if not is_announced and (outputs := (yield from client.calls.wait(pending, block=block))):
            return outputs
        outputs = yield from client.calls.read(call, b"0", block=0)
        if outputs:
            pending.missed()
        elif is_announced:  # by a server that has lost it since
            outputs = yield from client.calls.read(call, b"0", block=block)
    if not outputs and (yield from client.calls.record(call)) is None:
        return [Output(b"0", CANCELLED_INDEX, None, "gone")]
    return outputs


def _end_in(outputs: Sequence[Output]) -> Output | None:
    for output in outputs:
        if output.index in (0, CANCELLED_INDEX) and not output.is_item and not output.is_foreign:
            return output
    return None


def _ended(client: Client, call: str, output: Output, request: bytes | None) -> Op[Ended]:
    if output.index == CANCELLED_INDEX:
        return GONE if output.note == "gone" else _failed(503, call, "The request was cancelled.")
    if output.signed is None:
        return _noted(call, output.note or "")
    try:
        opened = open_outcome(output.signed, client.signer, call=call, index=0, request=request)
        payload = opened.payload
        if opened.blob is not None:
            payload = (yield from client.calls.result_blob(call, 0)) or b""
            if digest_of(payload) != opened.blob:
                return _failed(502, call, "The response is gone.", has_blob=True)
        return _of_outcome(call, opened, payload)
    except Error as error:
        return _failed(502, call, f"The response cannot be read: {error}.")


def _of_outcome(call: str, opened: Outcome, payload: bytes) -> Ended:
    has_blob = opened.blob is not None
    match opened.kind:
        case "value" if opened.format == "m":
            return Ended(_response(payload), has_blob=has_blob)
        case "error":
            return _failed(500, call, "Internal Server Error", has_blob=has_blob)
        case "timeout":
            return _failed(504, call, "The function took longer than its timeout.")
        case "cancelled":
            return _failed(503, call, "The request was cancelled.")
        case "lost":
            return _failed(502, call, "The container of the request was lost.")
        case _:
            return _failed(502, call, "The function has returned no response.", has_blob=has_blob)


def _noted(call: str, note: str) -> Ended:
    """What a script has ended: what user code said as its container started is for its owner alone."""
    kind, separator, text = note.partition(": ")
    if separator and kind == "init":
        return _failed(502, call, "No container of the function could be started.")
    if separator and kind in ("stopped", "unprocessable"):
        return _failed(503 if kind == "stopped" else 502, call, f"The request was ended: {text}.")
    return _failed(502, call, "The container of the request was lost.")


def _failed(status: int, call: str, text: str, *, has_blob: bool = False) -> Ended:
    more = (RETRY,) if status == 503 else ()
    return Ended(plain(status, f"{text}\nCall: {call}", *more), is_value=False, has_blob=has_blob)


def _response(payload: bytes) -> Response:
    """The response in a value's payload; raises MalformedError for any other value."""
    try:
        packed = msgpack.unpackb(payload, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise MalformedError(f"not msgpack: {error}") from error
    if type(packed) is not bytes:
        raise MalformedError("the function has returned no response")
    return unpack_response(packed)


GONE = Ended(plain(404, "There is no such result, or it was fetched already."), is_value=False)
