"""The outcome of an attempt as a value, and as the signed bytes in a call's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import Any, Literal, NamedTuple

import msgpack

from qmodal.wire.envelope import SHAPE, MalformedError, kinds, unpack_fields
from qmodal.wire.signing import Signer

# `value` and `error` carry a payload; the others a text. `values` and `mixed` are of a pack: the
# values of its inputs as one plain list, or a kind, a format and a payload of each. `lost` and `cancelled` also come
# unsigned, from scripts, which have no key: they can end a call but not put a value into it.
Kind = Literal["value", "error", "timeout", "cancelled", "lost", "values", "mixed"]
KINDS = ("value", "error", "timeout", "cancelled", "lost", "values", "mixed")
# An outcome above this is stored apart; up to it, settle writes it even when memory is full.
INLINE_BYTES = 1024 * 1024
_KINDS = kinds(str, int, int, bytes, str, str, bytes, (bytes, NoneType), str, int, int)


class Outcome(NamedTuple):
    """How an attempt ended; `started` in ms since 1970, `took` in microseconds.

    Of a pack, `took` is what one of its inputs took on the average.
    """

    kind: Kind
    format: str
    payload: bytes
    container: str = ""
    started: int = 0
    took: int = 0
    blob: bytes | None = None  # SHA-256 of a payload that is stored apart

    def seal(
        self, signer: Signer, *, call: str, index: int, request: bytes, count: int = 1
    ) -> bytes:
        """The signed bytes, bound to the input(s) and to exactly the request that they answer."""
        body: bytes = msgpack.packb(
            (
                SHAPE,
                call,
                index,
                count,
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
    data: bytes,
    signer: Signer,
    *,
    call: str,
    index: int,
    count: int = 1,
    request: bytes | None = None,
) -> Outcome:
    """Verify, decode and check that it answers this input; raises as `open_envelope`."""
    fields = unpack_fields(signer.verify("result", data), _KINDS)
    of_call, of_index, of_count, of_request, kind, form, payload, blob, *about = fields
    if of_call != call or of_index != index or of_count != count:
        raise MalformedError("the outcome belongs to another input")
    if request is not None and of_request != request:
        raise MalformedError("the outcome answers another request")
    if kind not in KINDS:
        raise MalformedError(f"unknown kind of outcome {kind!r}")
    container, started, took = about
    return Outcome(kind, form, payload, container, started, took, blob)


def text_outcome(kind: Kind, text: str, **more: Any) -> Outcome:
    """An outcome that carries a sentence and no value."""
    return Outcome(kind=kind, format="t", payload=text.encode(errors="replace"), **more)


def joined(outcomes: Sequence[Outcome], *, took: int) -> Outcome:
    """The outcomes of consecutive inputs of a pack as one."""
    parts = [(each.kind, each.format, each.payload) for each in outcomes]
    last = outcomes[-1]
    return Outcome("mixed", "m", msgpack.packb(parts), last.container, last.started, took)


def parted(outcome: Outcome, count: int) -> list[Outcome]:
    """What `joined` has joined; raises MalformedError."""
    try:
        parts = msgpack.unpackb(outcome.payload)
        found = [
            outcome._replace(kind=kind, format=form, payload=body) for kind, form, body in parts
        ]
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise MalformedError(f"not a list of outcomes: {error}") from error
    if len(found) != count:
        raise MalformedError(f"{len(found)} outcomes of {count} inputs")
    return found
