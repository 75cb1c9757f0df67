"""The outcome of an attempt as a value, and as the signed bytes in a call's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args

import msgpack

from qmodal.exception import DeserializationError
from qmodal.wire.envelope import SHAPE, MalformedError, kinds, unpack_fields
from qmodal.wire.plain import join, unpack, unpack_joined
from qmodal.wire.signing import Signer

# `value` and `error` carry a payload; the others a text. `values` and `mixed` are of several inputs:
# their values as one plain list, or a kind, a format and a payload of each. `lost` and `cancelled`
# also come unsigned, from scripts, which have no key: they can end a call but not put a value into it.
# `unstored`: the server had no room for the value.
Kind = Literal["value", "error", "timeout", "cancelled", "lost", "unstored", "values", "mixed"]
Result = tuple[Kind, str, bytes]  # kind, format and payload of an outcome
KINDS = get_args(Kind)
# An outcome above this is stored apart; up to it, settle writes it even when memory is full.
INLINE_BYTES = 1024 * 1024
_PLAIN = {("value", "m")}
# Without the generated constructor, which takes three times as long.
_new = tuple.__new__
_KINDS = kinds(str, int, int, bytes, str, str, bytes, (bytes, NoneType), str, int, int)


class Outcome(NamedTuple):
    """How an attempt ended; `started` in ms since 1970, `took` in microseconds.

    One that was opened says which `size` inputs of its call it is for, from `first` on; of several,
    `took` is what one of them took on the average.
    """

    kind: Kind
    format: str
    payload: bytes
    container: str = ""
    started: int = 0
    took: int = 0
    blob: bytes | None = None  # digest of a payload that is stored apart
    first: int = 0
    size: int = 1

    def seal(
        self, signer: Signer, *, call: str, index: int, request: bytes, count: int = 1
    ) -> bytes:
        """The signed bytes, bound to the input(s) and to exactly the request that (the first of) them was."""
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
    """Verify, decode and check that it answers these inputs (among others, perhaps).

    Raises as `open_envelope`.
    """
    fields = unpack_fields(signer.verify("result", data), _KINDS)
    of_call, of_index, of_count, of_request, kind, form, payload, blob, *about = fields
    if of_call != call or not of_index <= index < index + count <= of_index + of_count:
        raise MalformedError("the outcome belongs to another input")
    if request is not None and of_request != request:
        raise MalformedError("the outcome answers another request")
    if kind not in KINDS:
        raise MalformedError(f"unknown kind of outcome {kind!r}")
    container, started, took = about
    return _new(Outcome, (kind, form, payload, container, started, took, blob, of_index, of_count))


def text_outcome(kind: Kind, text: str, **more: Any) -> Outcome:
    """An outcome that carries a sentence and no value."""
    return Outcome(kind=kind, format="t", payload=text.encode(errors="replace"), **more)


def joined(results: Sequence[Result]) -> Result:
    """Those of consecutive inputs as one."""
    if {(kind, form) for kind, form, _ in results} == _PLAIN:
        return "values", "m", join([payload for _, _, payload in results])
    return "mixed", "m", msgpack.packb(results)


def values(outcome: Outcome) -> list[Any]:
    """The values that were joined in it; raises MalformedError."""
    try:
        found = unpack_joined(outcome.payload)
    except DeserializationError as error:
        raise MalformedError(f"not a list of values: {error}") from error
    if type(found) is not list or len(found) != outcome.size:
        raise MalformedError(f"not the values of {outcome.size} inputs")
    return found


def parted(outcome: Outcome) -> list[Outcome]:
    """The outcomes that were joined in it; raises MalformedError."""
    try:
        parts = msgpack.unpackb(outcome.payload)
        found = [
            outcome._replace(kind=kind, format=form, payload=body) for kind, form, body in parts
        ]
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise MalformedError(f"not a list of outcomes: {error}") from error
    if len(found) != outcome.size:
        raise MalformedError(f"{len(found)} outcomes of {outcome.size} inputs")
    return found


def told(kind: str, payload: bytes) -> tuple[str, str]:
    """What an unsuccessful outcome of one input says: one line, and the printed traceback or "".

    Nothing is unpickled: an error carries its texts beside its object.
    """
    if kind != "error":
        text = payload.decode(errors="replace")
        return text.strip().partition("\n")[0], ""
    try:
        report = unpack(payload)
        text, trace = report["text"], report["traceback"]
    except (DeserializationError, TypeError, LookupError):
        return "an error that cannot be read", ""
    return str(text).strip().partition("\n")[0], str(trace)
