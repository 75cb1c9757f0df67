"""Whom a call is for: one pool, and the method that runs there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qmodal import context
from qmodal.client import Client
from qmodal.exception import RequestSizeError
from qmodal.options import FunctionOptions
from qmodal.store.calls import Submission
from qmodal.store.exchange import Op
from qmodal.store.keys import shard_of
from qmodal.wire.envelope import BLOB_BYTES, PYTHON, Envelope
from qmodal.wire.ids import new_call_id
from qmodal.wire.payload import dump_arguments
from qmodal.wire.signing import mac_of
from qmodal.wire.spec import PoolSpec

# A result is delivered to the caller of `.remote()` and then deleted; a caller that is paused
# longer than this, say in a closed laptop, finds it expired.
DELIVERED_TTL_MS = 3_600_000
LARGEST_PAYLOAD = 512 * 1024 * 1024
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A hydrated function or method; `main_by_reference` as in `wire.payload`."""

    spec: PoolSpec
    pool: str
    method: str
    name: str  # what people call it
    is_generator: bool
    options: FunctionOptions
    main_by_reference: bool

    def open(self, client: Client) -> Op[None]:
        """Make the pool known to the server."""
        spec = self.spec
        yield from client.pools.open(
            self.pool,
            spec=spec.seal(client.signer),
            app=spec.app_id,
            function=spec.function,
            label=spec.label,
        )

    def new_call(self) -> str:
        """A fresh call id on the pool's shard."""
        return new_call_id(shard_of(self.pool))

    def submission(
        self,
        client: Client,
        inputs: Sequence[Arguments],
        *,
        call: str,
        first: int = 0,
        total: int | None = None,
        digest: bytes = b"",
        ttl: int | None = None,
    ) -> Submission:
        """Signed envelopes for the inputs; `ttl` in ms, None for that of results.

        Raises SerializationError and RequestSizeError.
        """
        now = time.time_ns() // 1_000_000
        envelopes: list[bytes] = []
        blobs: list[tuple[int, bytes]] = []
        for index, arguments in enumerate(inputs, first):
            envelope, blob = self._envelope(client, arguments, call=call, index=index, now=now)
            envelopes.append(envelope.seal(client.signer))
            if blob is not None:
                blobs.append((index, blob))
        return Submission(
            call=call,
            pool=self.pool,
            digest=digest or (mac_of(envelopes[0]) if envelopes else b"empty"),
            envelopes=envelopes,
            first=first,
            total=total,
            ttl=int(client.settings.result_ttl * 1000) if ttl is None else ttl,
            parent=context.current_input_id() or "",
            now=now,
            blobs=blobs,
        )

    def _envelope(
        self, client: Client, arguments: Arguments, *, call: str, index: int, now: int
    ) -> tuple[Envelope, bytes | None]:
        form, payload = dump_arguments(
            *arguments,
            plain_only=client.settings.payloads == "plain",
            main_by_reference=self.main_by_reference,
        )
        blob = None
        if len(payload) > BLOB_BYTES:
            payload, blob = _set_apart(payload)
        envelope = Envelope(
            pool=self.pool,
            call=call,
            index=index,
            method=self.method,
            created=now,
            deadline=None,
            python=PYTHON,
            format=form,
            payload=b"" if blob else payload,
            blob=payload if blob else None,
        )
        return envelope, blob


def _set_apart(payload: bytes) -> tuple[bytes, bytes]:
    """The digest that the envelope carries instead, and the payload itself."""
    import hashlib

    if len(payload) > LARGEST_PAYLOAD:
        raise RequestSizeError(
            f"the arguments take {len(payload)} bytes, and the limit is {LARGEST_PAYLOAD}; "
            "write them to shared storage and pass the place."
        )
    return hashlib.sha256(payload).digest(), payload
