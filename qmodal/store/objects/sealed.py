"""What dictionaries and queues hold, as signed bytes: bound to their place, and readable without unpickling.

A value verifies only in its own object, and there only under its key or in its partition.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import lru_cache
from types import NoneType
from typing import Any, NamedTuple

import msgpack

from qmodal.exception import DeserializationError, InvalidError
from qmodal.wire.envelope import PYTHON, MalformedError
from qmodal.wire.foreign import type_name
from qmodal.wire.plain import NotPlain, pack, unpack

PLAIN = b"m"
# How the signed bytes of a queue's item begin, so that no two items are the same.
ITEM_NUMBER_BYTES = 8
_KEY_TYPES = frozenset(
    {NoneType, bool, int, float, complex, str, bytes, datetime, date, timedelta, tuple}
)


class Pickled(NamedTuple):
    """A pickled value (`form` as in `wire.payload`), from which Python, and of which type it is."""

    form: str
    python: str
    type: str
    payload: bytes

    def pack(self) -> bytes:
        """The bytes to sign."""
        about = msgpack.packb((self.python, self.type))
        return b"".join((self.form.encode(), len(about).to_bytes(4, "big"), about, self.payload))


def parsed(body: bytes) -> Pickled | None:
    """What the signed bytes say of a pickled value, which is not opened; None if they hold a plain one.

    Raises MalformedError.
    """
    form = body[:1]
    if form == PLAIN:
        return None
    end = 5 + int.from_bytes(body[1:5], "big")
    try:
        python, of_type = msgpack.unpackb(body[5:end])
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise MalformedError(f"not a stored value: {error}") from error
    return Pickled(form.decode(errors="replace"), str(python), str(of_type), body[end:])


def plain_body(packed: bytes) -> bytes:
    """The bytes to sign of a value that is packed in msgpack."""
    return PLAIN + packed


def pickled_body(form: str, value: object, payload: bytes) -> bytes:
    """The bytes to sign of a value that was pickled here."""
    return Pickled(form, PYTHON, type_name(value), payload).pack()


def entry_place(object_id: str, key: bytes) -> bytes:
    """Where the value of a key belongs; ids are equally long, and a packed key is no beginning of another."""
    return object_id.encode() + key


def item_place(object_id: str, partition: str) -> bytes:
    """Where items of a partition belong."""
    name = partition.encode()
    return b"".join((object_id.encode(), bytes((len(name),)), name))


def pack_key(key: object) -> bytes:
    """A key as bytes, by which it is compared: 1, 1.0 and True are three keys. Raises InvalidError.

    Its type is one whose bytes are the same in every process, so that the key is found again.
    """
    if type(key) is str:
        return _pack_text(key)
    kind = type(key)
    if kind not in _KEY_TYPES or (kind is tuple and not _is_key(key)):
        raise InvalidError(
            f"{type_name(key)} cannot be a key of a Dict: keys are text, bytes, numbers, booleans, None, "
            "dates, and tuples of these. Use such a part of it, or its repr()."
        )
    try:
        return pack(key)
    except NotPlain as error:
        raise InvalidError(f"this {type_name(key)} cannot be a key of a Dict: {error}") from None


@lru_cache(maxsize=1024)  # programs use the same keys again and again
def _pack_text(key: str) -> bytes:
    return pack(key)


def _is_key(key: object) -> bool:
    if type(key) is tuple:
        return all(map(_is_key, key))
    return type(key) in _KEY_TYPES


def unpack_key(packed: bytes) -> Any:
    """The key of `pack_key`'s bytes; raises DeserializationError for any others."""
    key = unpack(packed)
    if type(key) not in _KEY_TYPES or not _is_key(key):
        raise DeserializationError("these bytes are no key of a Dict")
    return key
