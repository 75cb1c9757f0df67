"""The outcome of an attempt as a value, and as the signed bytes in a call's outputs."""

from __future__ import annotations

from types import NoneType
from typing import Any, Literal, NamedTuple

import msgpack

from qmodal.wire.envelope import SHAPE, MalformedError, Types, unpack_fields
from qmodal.wire.signing import Signer

# `value` and `error` carry a payload; the others a text. `lost` and `cancelled` also come
# unsigned, from scripts, which have no key: they can end a call but not put a value into it.
Kind = Literal["value", "error", "timeout", "cancelled", "lost"]
KINDS = ("value", "error", "timeout", "cancelled", "lost")
# An outcome above this is stored apart; up to it, settle writes it even when memory is full.
INLINE_BYTES = 1024 * 1024
_TYPES: Types = (str, int, bytes, str, str, bytes, (bytes, NoneType), str, int, int)


class Outcome(NamedTuple):
    """How an attempt ended; `started` in ms since 1970, `took` in microseconds."""

    kind: Kind
    format: str
    payload: bytes
    container: str = ""
    started: int = 0
    took: int = 0
    blob: bytes | None = None  # SHA-256 of a payload that is stored apart

    def seal(self, signer: Signer, *, call: str, index: int, request: bytes) -> bytes:
        """The signed bytes, bound to the input and to exactly the request that it answers."""
        body: bytes = msgpack.packb(
            (
                SHAPE,
                call,
                index,
                request,
                self.kind,
                self.format,
                self.payload,
                self.blob,
                self.container,
                self.started,
                self.took,
            )
        )
        return signer.sign("result", body)


def open_outcome(
    data: bytes, signer: Signer, *, call: str, index: int, request: bytes | None = None
) -> Outcome:
    """Verify, decode and check that it answers this input; raises as `open_envelope`."""
    fields = unpack_fields(signer.verify("result", data), _TYPES)
    of_call, of_index, of_request, kind, form, payload, blob, container, started, took = fields
    if of_call != call or of_index != index:
        raise MalformedError("the outcome belongs to another input")
    if request is not None and of_request != request:
        raise MalformedError("the outcome answers another request")
    if kind not in KINDS:
        raise MalformedError(f"unknown kind of outcome {kind!r}")
    return Outcome(kind, form, payload, container, started, took, blob)


def text_outcome(kind: Kind, text: str, **more: Any) -> Outcome:
    """An outcome that carries a sentence and no value."""
    return Outcome(kind=kind, format="t", payload=text.encode(errors="replace"), **more)
