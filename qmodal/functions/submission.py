"""Submitting a call's inputs: its id, its signed envelopes, and the pool that has to be open for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from operator import itemgetter
from typing import Any, TypeVar

from qmodal.client import context
from qmodal.client.client import Client
from qmodal.exception import RequestSizeError
from qmodal.functions.map.inputs import Arguments, MapInputs
from qmodal.functions.results import FIRST_BLOCK_MS
from qmodal.functions.target import Target
from qmodal.spec.documents import PoolSpec
from qmodal.store.calls import UnknownPoolError
from qmodal.store.entries import Submission
from qmodal.store.results.outputs import Output
from qmodal.telemetry.tracing import Submitting, submitting
from qmodal.transport.operation import Op
from qmodal.wire.envelope import BLOB_BYTES, pack_head, seal
from qmodal.wire.ids import derived_call_id, is_call_id, new_call_id, shard_of
from qmodal.wire.payload import dump_arguments
from qmodal.wire.plain import NotPlain
from qmodal.wire.signing import digest_of, mac_of
from qmodal.wire.trees import pack_columns

# A result is delivered to the caller of `.remote()` and then deleted; a caller that is paused
# longer than this, say in a closed laptop, finds it expired.
DELIVERED_TTL_MS = 3_600_000
# A pack is copied for each of its inputs that is retried.
PACK_BYTES = 8 * 1024
LARGEST_PAYLOAD = 512 * 1024 * 1024
# A server that loses each opening again, ten times in a row, is not waited for.
MOST_OPENINGS = 10
T = TypeVar("T")


def call_id_for(target: Target, resume: str | None = None) -> str:
    """A fresh call id on the shard of the target's pool, or the id of the call with this key or id."""
    if resume is None:
        return new_call_id(shard_of(target.pool))
    if is_call_id(resume):
        return resume
    return derived_call_id(shard_of(target.pool), target.pool, resume)


def submission_of(
    client: Client,
    target: Target,
    inputs: Sequence[Arguments],
    *,
    call: str,
    first: int = 0,
    total: int | None = None,
    pack: int = 1,
    trace: str | None = None,
) -> Submission:
    """Signed envelopes for the inputs, up to `pack` in each, to be kept as results are; `trace` as in `Head`.

    The digest is of these inputs; a call that goes on keeps that of its first ones. Raises SerializationError and RequestSizeError.
    """
    now = time.time_ns() // 1_000_000
    made = _Envelopes(target, client, pack_head(target.pool, call, target.method, now, trace))
    if pack > 1:
        made.add_packs(inputs, first, pack)
    else:
        for index, arguments in enumerate(inputs, first):
            made.add(arguments, index)
    envelopes = made.sealed
    return Submission(
        call=call,
        pool=target.pool,
        digest=mac_of(envelopes[0]) if envelopes else b"empty",
        envelopes=envelopes,
        first=first,
        total=total,
        ttl=int(client.settings.result_ttl * 1000),
        parent=context.current_input_id() or "",
        now=now,
        blobs=made.blobs,
        sizes=made.sizes,
    )


def traced(target: Target, call: str) -> Submitting:
    """The span of the call's submission, if the program traces; it begins now."""
    return submitting(target.name, target.pool, call)


def request(client: Client, target: Target, submission: Submission) -> Op[list[Output]]:
    """Submit one input and wait a second for its outcome, in one write."""
    try:
        return (yield from _request(client, submission))
    except UnknownPoolError:
        pass  # not from here: in eager mode user code runs, and its errors have no such context
    return (yield from _opening(client, target, partial(_request, client, submission)))


def _request(client: Client, submission: Submission) -> Op[list[Output]]:
    if submission.pending_reply is None:
        return client.calls.request(submission, block=FIRST_BLOCK_MS, shared=True)
    return client.calls.request_together(submission, block=FIRST_BLOCK_MS)


def submit(client: Client, target: Target, submission: Submission) -> Op[None]:
    """Submit; a pool that the server does not know (yet, or any more) is opened first."""
    try:
        yield from client.calls.submit(submission)
    except UnknownPoolError:
        pass  # as above
    else:
        return
    yield from _opening(client, target, partial(client.calls.submit, submission))


def _opening(client: Client, target: Target, submitting: Callable[[], Op[T]]) -> Op[T]:
    """Open the pool, and submit again.

    A server that was ended may have lost the opening again by the time that the submit is repeated.
    """
    for _ in range(MOST_OPENINGS - 1):
        yield from open_pool(client, target.spec)
        with suppress(UnknownPoolError):
            return (yield from submitting())
    yield from open_pool(client, target.spec)
    return (yield from submitting())


def open_pool(client: Client, spec: PoolSpec) -> Op[None]:
    """Make the pool known to the server."""
    yield from client.pools.open(
        spec.pool,
        spec=spec.seal(client.signer),
        app=spec.app_id,
        function=spec.function,
        label=spec.label,
    )


class _Envelopes:
    """The signed envelopes of one submission."""

    __slots__ = ("_client", "_head", "_plain_only", "_target", "blobs", "sealed", "sizes")

    def __init__(self, target: Target, client: Client, head: bytes) -> None:
        self._target = target
        self._client = client
        self._head = head
        self._plain_only = client.settings.payloads == "plain"
        self.sealed: list[bytes] = []
        self.blobs: list[tuple[int, bytes]] = []
        self.sizes: list[int] = []

    def add(self, arguments: Arguments, index: int) -> None:
        """An envelope with one input."""
        args, kwargs = arguments
        form, payload = dump_arguments(
            args,
            kwargs,
            plain_only=self._plain_only,
            main_by_reference=self._target.main_by_reference,
        )
        if len(payload) > BLOB_BYTES:
            digest = _digest_of(payload)
            self.blobs.append((index, payload))
            self._seal(index, form, b"", digest, 1)
        else:
            self._seal(index, form, payload, None, 1)

    def add_packs(self, inputs: Sequence[Arguments], first: int, most: int) -> None:
        """Envelopes with up to `most` inputs.

        Alone go those that are not plain, or large, and those of a group without positional
        arguments or with now more, now fewer of them.
        """
        for start in range(0, len(inputs), most):
            group = inputs[start : start + most]
            payload = _packed(group)
            if payload is None:
                for index, arguments in enumerate(group, first + start):
                    self.add(arguments, index)
                self.sizes += [1] * len(group)
            elif len(payload) > PACK_BYTES:
                fitting = len(group) * PACK_BYTES // len(payload)
                self.add_packs(group, first + start, max(1, min(fitting, len(group) // 2)))
            else:
                self._seal(first + start, "m", payload, None, len(group))
                self.sizes.append(len(group))

    def _seal(self, index: int, form: str, payload: bytes, blob: bytes | None, count: int) -> None:
        own = (index, count, form, payload, blob)
        self.sealed.append(seal(self._client.signer, self._head, own))


def _packed(group: Sequence[Arguments]) -> bytes | None:
    """The inputs of one pack; None if they have to go alone."""
    if len(group) == 1:
        return None
    try:
        kwargs, columns = _by_column(group)
        return pack_columns(kwargs, columns) if columns else None
    except NotPlain:
        return None


def _by_column(group: Sequence[Arguments]) -> tuple[dict[str, Any], Sequence[Sequence[Any]]]:
    """The keyword arguments of all, and lists of the positional ones; no list if that cannot be."""
    if isinstance(group, MapInputs):
        return group.kwargs, group.columns
    kwargs = group[0][1]
    if set(map(id, map(itemgetter(1), group))) == {id(kwargs)}:
        with suppress(ValueError):  # not the same number of arguments in each
            return kwargs, [*zip(*map(itemgetter(0), group), strict=True)]
    return kwargs, []


def _digest_of(payload: bytes) -> bytes:
    """What the envelope carries instead of a payload that is stored apart."""
    if len(payload) > LARGEST_PAYLOAD:
        raise RequestSizeError(
            f"the arguments take {len(payload)} bytes, and the limit is {LARGEST_PAYLOAD}; "
            "write them to shared storage and pass the place."
        )
    return digest_of(payload)
