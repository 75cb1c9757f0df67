"""Runs an input again: a new call with the same arguments, linked to the input that it repeats."""

from __future__ import annotations

import time

from qmodal.cli.commands.finding.inputs import Payload, opened, payload_of
from qmodal.client.client import Client
from qmodal.exception import ConflictError, NotFoundError
from qmodal.spec.documents import PoolSpec, Version
from qmodal.spec.web import full_name, web_functions
from qmodal.store.calls import UnknownPoolError
from qmodal.store.entries import Submission
from qmodal.transport.operation import Op
from qmodal.wire.envelope import BLOB_BYTES, Envelope, seal
from qmodal.wire.ids import input_id, new_call_id, shard_of
from qmodal.wire.signing import digest_of, mac_of


def run_again(client: Client, signed: bytes, index: int) -> Op[str]:
    """The id of a new call of that input, whose result is kept as that of a `spawn`.

    Raises UnreadableError if its arguments are not kept, NotFoundError if nobody serves its function any more,
    ConflictError if somebody would have to read along.
    """
    envelope = opened(client, signed)
    yield from _check(client, envelope)
    payload = yield from payload_of(client, envelope, index)
    submission = _submission(client, envelope, index, payload)
    try:
        yield from client.calls.submit(submission)
    except UnknownPoolError:
        raise _gone(envelope) from None
    return submission.call


def _check(client: Client, envelope: Envelope) -> Op[None]:
    spec = yield from client.specs.pool(envelope.head.pool)
    if spec is None:
        raise _gone(envelope)
    record = yield from client.apps.record(spec.value.app_id)
    if record is None or record.state == "stopped":
        name = spec.value.app_id if record is None else record.name
        raise NotFoundError(
            f"app {name} has stopped, so nothing runs its inputs; deploy it and call the function again"
        )
    version = yield from client.specs.of_record(record, spec.value.number)
    if version is not None:
        _check_function(version.value, spec.value, envelope)


def _check_function(version: Version, spec: PoolSpec, envelope: Envelope) -> None:
    """Raise ConflictError for an input whose caller had to do more than to wait."""
    method = envelope.head.method
    name = full_name(spec.function, method)
    if any((each.tag, each.method) == (spec.function, method) for each in web_functions(version)):
        raise ConflictError(f"{name} is a web function: send the request again")
    function = version.functions.get(spec.function)
    about = function.methods.get(method) if function else None
    if about is not None and about.is_generator:
        raise ConflictError(
            f"{name} is a generator, whose items somebody has to read: call it again"
        )


def _submission(client: Client, envelope: Envelope, index: int, payload: Payload) -> Submission:
    head, now = envelope.head, time.time_ns() // 1_000_000
    call = new_call_id(shard_of(head.pool))
    # The Python that pickled code is for stays that of its first caller.
    packed = head._replace(call=call, created=now, deadline=None, trace=None).pack()
    form, body = payload
    is_large = len(body) > BLOB_BYTES
    inline, blob = (b"", digest_of(body)) if is_large else (body, None)
    signed = seal(client.signer, packed, (0, 1, form, inline, blob))
    return Submission(
        call=call,
        pool=head.pool,
        digest=mac_of(signed),
        envelopes=[signed],
        total=1,
        ttl=int(client.settings.result_ttl * 1000),
        parent=input_id(head.call, index),
        now=now,
        blobs=[(0, body)] if is_large else (),
    )


def _gone(envelope: Envelope) -> NotFoundError:
    return NotFoundError(
        f"pool {envelope.head.pool} is not known any more: call the function again from a program"
    )
