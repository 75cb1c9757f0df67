"""The outcome of an attempt as a value, and as the signed bytes in a call's outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgpack

from qmodal.wire.envelope import SHAPE, MalformedError, unpack_fields
from qmodal.wire.signing import Signer

# `value` and `error` carry a payload; the others a text. `lost` and `cancelled` also come
# unsigned, from scripts, which have no key: they can end a call but not put a value into it.
Kind = Literal["value", "error", "timeout", "cancelled", "lost"]
KINDS = ("value", "error", "timeout", "cancelled", "lost")
# An outcome above this is stored apart; up to it, settle writes it even when memory is full.
INLINE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Outcome:
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
    fields: list[Any] = unpack_fields(signer.verify("result", data), count=11)
    if fields[1] != call or fields[2] != index:
        raise MalformedError("the outcome belongs to another input")
    if request is not None and fields[3] != request:
        raise MalformedError("the outcome answers another request")
    if fields[4] not in KINDS:
        raise MalformedError(f"unknown kind of outcome {fields[4]!r}")
    return Outcome(
        kind=fields[4],
        format=fields[5],
        payload=fields[6],
        blob=fields[7],
        container=fields[8],
        started=fields[9],
        took=fields[10],
    )


def text_outcome(kind: Kind, text: str, **more: Any) -> Outcome:
    """An outcome that carries a sentence and no value."""
    return Outcome(kind=kind, format="t", payload=text.encode(errors="replace"), **more)
