"""Values of dictionaries and queues: plain where that is exact, else pickled; signed for their place either way."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from qmodal.client.client import Client
from qmodal.exception import InvalidError, SerializationError, VersionError
from qmodal.store.objects.sealed import PLAIN, parsed, pickled_body, plain_body
from qmodal.wire.envelope import PYTHON
from qmodal.wire.foreign import ForeignError, describe, touch, type_name
from qmodal.wire.payload import load
from qmodal.wire.plain import SCALARS, NotPlain, pack_checked, unpack
from qmodal.wire.trees import pack_value

# What is larger takes so long anyway that few steps save nothing.
SMALL_BYTES = 4096


def seal(client: Client, place: bytes, value: object) -> bytes:
    """The value as signed bytes for that place; raises SerializationError."""
    return client.signer.sign_at(place, body_of(client, value))


def body_of(client: Client, value: object) -> bytes:
    """The bytes to sign of a value; raises SerializationError."""
    plain_only = client.settings.payloads == "plain"
    try:
        return plain_body(pack_value(value, may_share=plain_only))
    except NotPlain as refusal:
        if plain_only:
            raise SerializationError(
                f"QMODAL_PAYLOADS=plain allows only plain values, but the value: {refusal}"
            ) from None
        return _pickled(value)


def bodies_of(client: Client, values: Collection[object]) -> list[bytes]:
    """As `body_of`, of each."""
    try:
        return [
            PLAIN + pack_checked(value) if type(value) in SCALARS else body_of(client, value)
            for value in values
        ]
    except NotPlain:  # of a plain type, and not to be packed as such
        return [body_of(client, value) for value in values]


def small_body(value: object) -> bytes | None:
    """As `body_of`, of a small plain value; None for any other."""
    try:
        packed = pack_checked(value) if type(value) in SCALARS else pack_value(value)
    except NotPlain:
        return None
    return PLAIN + packed if len(packed) < SMALL_BYTES else None


def _pickled(value: object) -> bytes:
    from qmodal.wire import pickled

    try:
        payload = touch(pickled.dumps, value)
    except ForeignError as foreign:
        reason = foreign.reason
        if isinstance(reason, InvalidError):  # a handle that cannot travel says so itself
            raise reason from None
        raise SerializationError(
            f"a value of type {type_name(value)} cannot be pickled: {describe(reason)}"
        ) from reason
    return pickled_body("c" if pickled.holds_code(payload) else "p", value, payload)


def open_value(client: Client, place: bytes, signed: bytes) -> Any:
    """The value that was put at that place, as `open_body`; BadSignatureError or UnknownKeyError for other bytes."""
    return open_body(client, client.signer.verify_at(place, signed))


def open_body(client: Client, body: bytes) -> Any:
    """The value of bytes that were verified.

    Raises VersionError for code from another Python, and DeserializationError for a value that cannot be rebuilt here.
    """
    if body[:1] == PLAIN:
        return unpack(body[1:])
    found = parsed(body)
    assert found is not None
    if found.form == "c" and found.python != PYTHON:
        raise VersionError(
            f"The value (a {found.type}) has code of Python {found.python}, and this is {PYTHON}: define its "
            "class in a module that both sides can import."
        )
    return load(found.form, found.payload, plain_only=client.settings.payloads == "plain")
