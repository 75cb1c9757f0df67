"""Calls of one input: `.remote()` and `.spawn()`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from qmodal.client.client import Client, current, known
from qmodal.client.verb import MethodDocstring, Verb, VerbMethod, is_in_loop
from qmodal.exception import Error
from qmodal.functions.map.inputs import Arguments
from qmodal.functions.receipts import forget
from qmodal.functions.results import (
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
    traced,
)
from qmodal.functions.target import Target
from qmodal.store.entries import Submission
from qmodal.store.results.outputs import Output, parse_reply
from qmodal.telemetry.tracing import is_on
from qmodal.transport.operation import FIND_REPLY_READER, AtMost, Later, Op
from qmodal.transport.sharing.pending_call import PendingCall
from qmodal.transport.sharing.pending_reply import PendingReply, ReplySource
from qmodal.wire.outcome import open_outcome
from qmodal.wire.plain import unpack

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")
# Whoever presses Ctrl-C waits no longer than this for the input to be taken back.
ABANDON_SECONDS = 1.0


def remote(target: Target, arguments: Arguments) -> Op[Any]:
    """Submit and wait: one round trip, as the read for the result goes out with the input.

    While other calls are under way it goes out with theirs, and the result comes by their reply stream.
    """
    client, call = current(), call_id_for(target)
    with traced(target, call) as span:
        submission = _submission(client, target, arguments, call, span.trace)
        # Nobody shall wait behind large arguments.
        if not submission.blobs and (readers := (yield FIND_REPLY_READER)):
            submission.pending_reply = _pending_reply(client, call, readers[0])
        return (yield from _outcome(client, target, submission, None))


class Callee(Protocol):
    """What `remote` is a verb of: a function."""

    def _plain_target_at_hand(self) -> Target | None:
        """What its calls are for, if nobody has to be asked for that or to check it."""
        ...


class RemoteVerb(Verb[P, R]):
    """`remote` with its function; a call takes few steps where it can (`remote_now`, `remote_aio`)."""

    __slots__ = ()
    __doc__ = MethodDocstring(__doc__)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do it and wait."""
        if is_in_loop():
            self._warn()
        client, target = self._at_hand()
        if client is None or target is None:
            return self._run(*args, **kwargs)
        result: R = remote_now(client, target, (args, kwargs))
        return result

    async def aio(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do it without blocking the event loop."""
        client, target = self._at_hand()
        if client is None or target is None:
            return await super().aio(*args, **kwargs)
        result: R = await remote_aio(client, target, (args, kwargs))
        return result

    def _at_hand(self) -> tuple[Client | None, Target | None]:
        """The client, if it has checked its server, and the target, if nobody has to be asked for it.

        A traced call takes the other way: its span takes longer than the steps that it could save.
        """
        callee: Callee = self._method.__self__  # type: ignore[attr-defined]
        client = known()
        if client is None or not client.is_checked or is_on():
            return None, None
        return client, callee._plain_target_at_hand()


def remote_verb(method: Callable[Concatenate[S, P], Op[R]]) -> VerbMethod[S, RemoteVerb[P, R]]:
    """As `verb`, for `remote`."""
    return VerbMethod(method, RemoteVerb)


# The few steps of a call that is one of many. They are for what is usual: a small new call is accepted, and its
# outcome, a plain value, comes by the reply stream within a second. Whatever else happens is left to the operation,
# which goes on where they have come to: it submits the same submission again, waits on, or says what is wrong. To
# submit again is safe, as a call id with the same digest is the same call.


def remote_now(client: Client, target: Target, arguments: Arguments) -> Any:
    """As `remote`, for a thread; while many others call, too, it takes few steps."""
    submission, driver = (
        _submission(client, target, arguments, call_id_for(target)),
        client.blocking,
    )
    pending = _pending_call(client, submission, driver.reply_reader())
    if pending is None:
        return client.run(_outcome(client, target, submission, None))
    try:
        content = driver.call(pending, FIRST_BLOCK_MS / 1000)
    except BaseException:  # Ctrl-C, or what a signal's handler has raised
        pending.close()
        client.run(_abandoned(client, submission.call))
        raise
    value = _plain_value(client, submission, content)
    if value is _UNUSUAL:
        return client.run(_outcome(client, target, submission, _outputs(pending, content)))
    return value


async def remote_aio(client: Client, target: Target, arguments: Arguments) -> Any:
    """As `remote`, for a task; while other tasks of its loop call, too, it takes few steps."""
    submission, driver = (
        _submission(client, target, arguments, call_id_for(target)),
        client.loops.driver(),
    )
    pending = _pending_call(client, submission, driver.reply_reader())
    if pending is None:
        return await client.aio(_outcome(client, target, submission, None))
    try:
        content = await driver.call(pending, FIRST_BLOCK_MS / 1000)
    except BaseException as error:  # a cancelled task, or one that nobody will run any more
        pending.close()
        if not isinstance(error, GeneratorExit):
            await client.aio(_abandoned(client, submission.call))
        raise
    value = _plain_value(client, submission, content)
    if value is _UNUSUAL:
        return await client.aio(_outcome(client, target, submission, _outputs(pending, content)))
    return value


_UNUSUAL = object()


def _pending_call(
    client: Client, submission: Submission, reader: ReplySource | None
) -> PendingCall | None:
    """The call to send with others; None if that is not for the few steps, or it goes alone."""
    # Nobody shall wait behind large arguments.
    if reader is None or submission.blobs:
        return None
    call, name = submission.call, reader.reply_to  # read once: it may change
    if submission.parent:  # it is noted with the input that makes it, which the operation does
        submission.pending_reply = _pending_reply(client, call, reader)
        return None
    pending = PendingCall(reader, name, client.keys.replies(call, name), call)
    submission.pending_reply = pending
    pending.mergeable = client.calls.mergeable(submission)
    return pending


def _plain_value(client: Client, submission: Submission, content: Sequence[bytes] | None) -> Any:
    """The plain value of the input in what came for it, and the call is over; `_UNUSUAL` for anything else."""
    if content is None or content[0] != b"0" or content[1] != b"o":
        return _UNUSUAL
    call, pending = submission.call, submission.pending_reply
    try:
        outcome = open_outcome(
            content[2], client.signer, call=call, index=0, request=submission.digest
        )
        if outcome.kind != "value" or outcome.format != "m" or outcome.blob is not None:
            return _UNUSUAL
        value = unpack(outcome.payload)
    except Error:
        return _UNUSUAL  # the operation finds it, too, and says it to the caller
    if pending is not None:
        pending.close()
    client.later(client.calls.forget_command(call))
    return value


def _outputs(pending: PendingCall, content: Sequence[bytes] | None) -> list[Output] | None:
    """What has come of a call so far; None if it is to be submitted again."""
    if content is not None:
        return parse_reply(content)
    return [] if pending.is_accepted else None


def _submission(
    client: Client, target: Target, arguments: Arguments, call: str, trace: str | None = None
) -> Submission:
    made = submission_of(client, target, (arguments,), call=call, total=1, trace=trace)
    made.ttl = DELIVERED_TTL_MS
    return made


def _outcome(
    client: Client, target: Target, submission: Submission, outputs: list[Output] | None
) -> Op[Any]:
    """What becomes of the input; `outputs`: what has come of it, None if it is to be submitted."""
    call, pending = submission.call, submission.pending_reply
    try:
        if outputs is None:
            outputs = yield from request(client, target, submission)
        if not outputs or outputs[0].index:
            outputs = yield from _waited(client, call, outputs, pending)
    except (Error, GeneratorExit):
        raise
    except BaseException:  # Ctrl-C, a cancelled task, or what a signal's handler has raised
        yield from _abandoned(client, call)
        raise
    finally:
        if pending is not None:
            pending.close()
    return (yield from _delivered(client, target.name, submission, outputs[0]))


def _pending_reply(client: Client, call: str, reader: ReplySource) -> PendingReply:
    name = reader.reply_to  # read once: it may change
    return PendingReply(reader, name, client.keys.replies(call, name), call)


def _delivered(client: Client, name: str, submission: Submission, output: Output) -> Op[Any]:
    """The value, or what it raises; the call is forgotten either way."""
    blobs: tuple[int, ...] = (0,)
    # A result that was stored apart is fetched before the deletion goes out with a later write.
    try:
        outcome = open_output(client, submission.call, output, submission.digest, name)
        payload = outcome.payload
        if outcome.blob is None:
            blobs = ()
        else:
            payload = yield from fetch_blob(client, submission.call, 0, outcome.blob)
    except Exception as error:
        yield from forget(client, submission, error, blobs=blobs)
        raise
    try:
        value = value_of(client, outcome, payload, submission.call, 0)
    except BaseException as error:  # also SystemExit, which user code may raise
        yield from forget(client, submission, error, blobs=blobs)
        raise
    yield from forget(client, submission, blobs=blobs)
    return value


def _abandoned(client: Client, call: str) -> Op[None]:
    yield AtMost(_abandon(client, call), ABANDON_SECONDS)


def _abandon(client: Client, call: str) -> Op[None]:
    """Nobody waits for it any more: end what is queued or runs, and forget the call."""
    running = yield from client.calls.cancel(call)
    yield from client.calls.nudge_cancelled(running)
    yield Later(client.calls.forget_command(call, (0,)))


def _waited(
    client: Client, call: str, outputs: list[Output], pending: PendingReply | None
) -> Op[list[Output]]:
    reader = OutputReader(client, call)
    fresh = reader.accept(outputs)
    reader.quiet_ms = FIRST_BLOCK_MS
    while not fresh:
        block = reader.block_ms
        if pending is None:
            fresh = yield from reader.read(block)
        elif fresh := (yield from reader.read(0)):  # raises for a call that is gone
            pending.missed()
        else:
            fresh = reader.accept((yield from client.calls.wait(pending, block=block)))
            reader.quiet_ms += block
    return fresh


def spawn(target: Target, arguments: Arguments) -> Op[str]:
    """Submit; the call id, once the server has said yes."""
    client = current()
    call = call_id_for(target)
    with traced(target, call) as span:
        submission = submission_of(
            client, target, [arguments], call=call, total=1, trace=span.trace
        )
        yield from submit(client, target, submission)
    return call
