"""The envelope of an input: what a container needs to run it, signed, and immutable to the end.

How often it was retried or lost stands beside it in the entry, where scripts may change it:
forging that changes a budget, never what runs.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from itertools import product
from types import NoneType
from typing import Any, NamedTuple

import msgpack

from qmodal.exception import Error
from qmodal.wire.signing import Signer

SHAPE = 1
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
BLOB_BYTES = 32 * 1024
Kinds = frozenset[tuple[type, ...]]
_new = tuple.__new__


def kinds(*types: type | tuple[type, ...]) -> Kinds:
    """All combinations of field types, a tuple standing for either of its types.

    One look into a set replaces an `isinstance` for each field, and lets no bool pass for a number.
    """
    return frozenset(product(*(each if isinstance(each, tuple) else (each,) for each in types)))


# Of an envelope, which begins with another shape than what else is signed, and of its head.
ENVELOPE_SHAPE = 3
_KINDS = kinds(bytes, int, int, str, bytes, (bytes, NoneType))
_HEAD_KINDS = kinds(str, str, str, int, (int, NoneType), str, (str, NoneType))
_HEADS = 64


class MalformedError(Error):
    """The bytes are signed and still not of the shape that this version understands."""


class Head(NamedTuple):
    """What all inputs of a submission have in common; times in milliseconds since 1970.

    `trace`: a `traceparent` of W3C, and behind a blank a `tracestate` if there is one. It is passed on, and nothing
    is decided by it.
    """

    pool: str
    call: str
    method: str
    created: int
    deadline: int | None
    python: str
    trace: str | None = None

    def pack(self) -> bytes:
        """Its bytes in each of their envelopes."""
        packed: bytes = msgpack.packb((SHAPE, *self))
        return packed


def pack_head(pool: str, call: str, method: str, created: int, trace: str | None = None) -> bytes:
    """As `pack` of the head of inputs from this process, without making one."""
    packed: bytes = msgpack.packb((SHAPE, pool, call, method, created, None, PYTHON, trace))
    return packed


class Envelope(NamedTuple):
    """One input as submitted; `format` as in `wire.payload`.

    With `size` it is a pack of so many inputs from `first` on, whose plain payload holds their arguments by position.
    """

    head: Head
    first: int
    size: int
    format: str
    payload: bytes
    blob: bytes | None  # digest of a payload that is stored apart

    @property
    def call(self) -> str:
        """The call that it belongs to."""
        return self.head.call

    def seal(self, signer: Signer) -> bytes:
        """The signed bytes."""
        return seal(signer, self.head.pack(), self[1:])


def seal(signer: Signer, head: bytes, own: tuple[int, int, str, bytes, bytes | None]) -> bytes:
    """The signed bytes of an envelope with that packed head and those other fields."""
    body: bytes = msgpack.packb((ENVELOPE_SHAPE, head, *own))
    return signer.sign("call", body)


def open_envelope(data: bytes, signer: Signer) -> Envelope:
    """Verify, then decode; raises BadSignatureError, UnknownKeyError or MalformedError."""
    body = signer.verify("call", data)
    fields = unpack_fields(body, _KINDS, ENVELOPE_SHAPE)
    fields[0] = _opened(fields[0])
    return _new(Envelope, fields)


# A map's inputs have the same head, one after another.
@lru_cache(maxsize=_HEADS)
def _opened(packed: bytes) -> Head:
    return _new(Head, unpack_fields(packed, _HEAD_KINDS))


def unpack_fields(body: bytes, allowed: Kinds, shape: int = SHAPE) -> list[Any]:
    """The fields, of one of these combinations of types, of an array that begins with that shape.

    Raises MalformedError.
    """
    try:
        fields = msgpack.unpackb(body, use_list=True, raw=False, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise MalformedError(f"not msgpack: {error}") from error
    if type(fields) is not list or not fields or fields[0] != shape:
        raise MalformedError("not an array of the known shape")
    del fields[0]
    if tuple(map(type, fields)) not in allowed:
        raise MalformedError("a field is missing, or has another type")
    return fields
