"""Calls of one input: `.remote()` and `.spawn()`."""

from __future__ import annotations

from typing import Any

from qmodal.client.client import Client, current
from qmodal.exception import Error
from qmodal.functions.map.inputs import Arguments
from qmodal.functions.receipts import forget
from qmodal.functions.results import (
    BLOCK_MS,
    FIRST_BLOCK_MS,
    OutputReader,
    fetch_blob,
    open_output,
    value_of,
)
from qmodal.functions.submission import (
    DELIVERED_TTL_MS,
    call_id_for,
    request,
    submission_of,
    submit,
)
from qmodal.functions.target import Target
from qmodal.store.entries import Submission
from qmodal.store.outputs import Output
from qmodal.transport.operation import FIND_REPLY_READER, AtMost, Later, Op
from qmodal.transport.sharing.pending_reply import PendingReply, ReplySource

# Whoever presses Ctrl-C waits no longer than this for the input to be taken back.
ABANDON_SECONDS = 1.0


def remote(target: Target, arguments: Arguments) -> Op[Any]:
    """Submit and wait: one round trip, as the read for the result goes out with the input.

    While other calls are under way it goes out with theirs, and the result comes by their reply stream.
    """
    client = current()
    call = call_id_for(target)
    submission = submission_of(
        client, target, (arguments,), call=call, total=1, ttl=DELIVERED_TTL_MS
    )
    pending = None
    # Nobody shall wait behind large arguments.
    if not submission.blobs and (readers := (yield FIND_REPLY_READER)):
        pending = submission.pending_reply = _pending_reply(client, call, readers[0])
    try:
        outputs = yield from request(client, target, submission)
        if not outputs or outputs[0].index:
            outputs = yield from _waited(client, call, outputs, pending)
    except (Error, GeneratorExit):
        raise
    except BaseException:  # Ctrl-C, a cancelled task, or what a signal's handler has raised
        yield AtMost(_abandon(client, call), ABANDON_SECONDS)
        raise
    finally:
        if pending is not None:
            pending.close()
    return (yield from _delivered(client, submission, outputs[0]))


def _pending_reply(client: Client, call: str, reader: ReplySource) -> PendingReply:
    name = reader.reply_to  # read once: it may change
    return PendingReply(reader, name, client.keys.replies(call, name), call)


def _delivered(client: Client, submission: Submission, output: Output) -> Op[Any]:
    """The value, or what it raises; the call is forgotten either way."""
    blobs: tuple[int, ...] = (0,)
    # A result that was stored apart is fetched before the deletion goes out with a later write.
    try:
        outcome = open_output(client, submission.call, output, submission.digest)
        payload = outcome.payload
        if outcome.blob is None:
            blobs = ()
        else:
            payload = yield from fetch_blob(client, submission.call, 0, outcome.blob)
    except Exception as error:
        yield from forget(client, submission, error, blobs=blobs)
        raise
    try:
        value = value_of(client, outcome, payload)
    except BaseException as error:  # also SystemExit, which user code may raise
        yield from forget(client, submission, error, blobs=blobs)
        raise
    yield from forget(client, submission, blobs=blobs)
    return value


def _abandon(client: Client, call: str) -> Op[None]:
    """Nobody waits for it any more: end what is queued or runs, and forget the call."""
    running = yield from client.calls.cancel(call)
    yield from client.calls.nudge_cancelled(running)
    yield Later(client.calls.forget_command(call, (0,)))


def _waited(
    client: Client, call: str, outputs: list[Output], pending: PendingReply | None
) -> Op[list[Output]]:
    reader = OutputReader(client, call)
    fresh, block = reader.accept(outputs), FIRST_BLOCK_MS
    while not fresh:
        if pending is None:
            fresh = yield from reader.read(block)
        elif fresh := (yield from reader.read(0)):  # raises for a call that is gone
            pending.missed()
        else:
            fresh = reader.accept((yield from client.calls.wait(pending, block=block)))
        block = BLOCK_MS
    return fresh


def spawn(target: Target, arguments: Arguments) -> Op[str]:
    """Submit; the call id, once the server has said yes."""
    client = current()
    call = call_id_for(target)
    submission = submission_of(client, target, [arguments], call=call, total=1)
    yield from submit(client, target, submission)
    return call
