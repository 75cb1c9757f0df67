"""The envelope of an input: what a container needs to run it, signed, and immutable to the end.

How often it was retried or lost stands beside it in the entry, where scripts may change it:
forging that changes a budget, never what runs.
"""

from __future__ import annotations

import sys
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


def kinds(*types: type | tuple[type, ...]) -> Kinds:
    """All combinations of field types, a tuple standing for either of its types.

    One look into a set replaces an `isinstance` for each field, and lets no bool pass for a number.
    """
    return frozenset(product(*(each if isinstance(each, tuple) else (each,) for each in types)))


_KINDS = kinds(
    *(str, str, int, str, int, (int, NoneType)),
    *(str, str, bytes, (bytes, NoneType), (str, NoneType), int),
)


class MalformedError(Error):
    """The bytes are signed and still not of the shape that this version understands."""


class Envelope(NamedTuple):
    """One input as submitted; times in milliseconds since 1970, `format` as in `wire.payload`.

    With `size` it is a pack of so many inputs from `first` on, whose plain payload is a list.
    """

    pool: str
    call: str
    first: int
    method: str
    created: int
    deadline: int | None
    python: str
    format: str
    payload: bytes
    blob: bytes | None  # SHA-256 of a payload that is stored apart
    trace: str | None = None
    size: int = 1

    def seal(self, signer: Signer) -> bytes:
        """The signed bytes."""
        body: bytes = msgpack.packb((SHAPE, *self))
        return signer.sign("call", body)


def open_envelope(data: bytes, signer: Signer) -> Envelope:
    """Verify, then decode; raises BadSignatureError, UnknownKeyError or MalformedError."""
    return Envelope._make(unpack_fields(signer.verify("call", data), _KINDS))


def unpack_fields(body: bytes, allowed: Kinds) -> list[Any]:
    """The fields, of one of these combinations of types, of an array that begins with our shape.

    Raises MalformedError.
    """
    try:
        fields = msgpack.unpackb(body, use_list=True, raw=False, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise MalformedError(f"not msgpack: {error}") from error
    if type(fields) is not list or not fields or fields[0] != SHAPE:
        raise MalformedError("not an array of the known shape")
    del fields[0]
    if tuple(map(type, fields)) not in allowed:
        raise MalformedError("a field is missing, or has another type")
    return fields
