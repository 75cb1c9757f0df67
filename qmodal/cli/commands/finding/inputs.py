"""What an input is, told from its envelope: its head, and its arguments where they are plain data."""

from __future__ import annotations

import time
from typing import NamedTuple

from qmodal.client.client import Client
from qmodal.exception import DeserializationError, Error
from qmodal.store.results.failures import KEEP_MS
from qmodal.transport.operation import Op
from qmodal.wire.envelope import Envelope, open_envelope
from qmodal.wire.outcome import Outcome
from qmodal.wire.plain import unpack, unpack_columns
from qmodal.wire.signing import digest_of
from qmodal.wire.trees import pack_arguments

LONGEST_SHOWN = 2000
# Why an input cannot be repeated whose arguments are stored apart.
_NO_ROOM = (
    "its arguments were larger than 32 KiB, and had to make room for those of newer failures: of an app the latest 64 MiB "
    "are kept, or what QMODAL_FAILED_ARGUMENTS_MIB of workers and autoscalers says, and none while the memory of the "
    "server is nearly full. Call the function again from a program, and set that higher to keep more from now on"
)
_TOO_OLD = (
    "its arguments were larger than 32 KiB, which are kept for a week, those of dead letters for 30 days: call the "
    "function again from a program"
)
_CHANGED = "its arguments, which are stored apart, are not those that were submitted: call the function again from a program"
_FORMATS = {"m": "plain", "p": "pickled", "c": "pickled with code"}


class Payload(NamedTuple):
    """The arguments of one input as bytes, in the format of `wire.payload`."""

    format: str
    body: bytes


class UnreadableError(Error):
    """Raised for an input of which nothing can be told; says why."""


def opened(client: Client, signed: bytes) -> Envelope:
    """The envelope; raises UnreadableError."""
    try:
        return open_envelope(signed, client.signer)
    except Error as error:
        raise UnreadableError(f"its envelope cannot be opened here ({error})") from error


def payload_of(client: Client, envelope: Envelope, index: int) -> Op[Payload]:
    """The arguments of the input of that index; raises UnreadableError if they are not kept."""
    if envelope.blob is not None:
        stored = yield from client.kept_arguments.read(envelope.call, index)
        for each in stored:
            if digest_of(each) == envelope.blob:
                return Payload(envelope.format, each)
        is_old = envelope.head.created < time.time_ns() // 1_000_000 - KEEP_MS
        raise UnreadableError(_CHANGED if stored else _TOO_OLD if is_old else _NO_ROOM)
    if envelope.size == 1:
        return Payload(envelope.format, envelope.payload)
    try:
        kwargs, columns = unpack_columns(envelope.payload)
        arguments = [column[index - envelope.first] for column in columns]
        return Payload("m", pack_arguments(tuple(arguments), kwargs, may_share=True))
    except (DeserializationError, TypeError, ValueError, LookupError) as error:
        raise UnreadableError("its pack does not hold what it says") from error


def shown_arguments(client: Client, signed: bytes, index: int) -> Op[str]:
    """The arguments as in a call (`4, by=0`); what they are instead, in angle brackets, if they are not plain."""
    if not signed:
        return "<not kept>"
    try:
        payload = yield from payload_of(client, opened(client, signed), index)
        if payload.format != "m":
            return _bracketed(*payload)
        args, kwargs = unpack(payload.body)
        parts = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
    except (UnreadableError, DeserializationError, TypeError, ValueError, AttributeError) as error:
        return f"<{error}>"
    return shortened(", ".join(parts))


def shown_value(outcome: Outcome) -> str:
    """A result as it prints; what it is instead, in angle brackets, if it is not plain."""
    if outcome.blob is not None:
        return "<larger than 1 MiB, stored apart>"
    if outcome.format != "m":
        return _bracketed(outcome.format, outcome.payload)
    try:
        return shortened(repr(unpack(outcome.payload)))
    except DeserializationError as error:
        return f"<{error}>"


def shortened(text: str) -> str:
    """The text, cut where it is longer than anybody reads."""
    left_out = len(text) - LONGEST_SHOWN
    return f"{text[:LONGEST_SHOWN]} <and {left_out} characters>" if left_out > 0 else text


def _bracketed(form: str, body: bytes) -> str:
    return f"<{_FORMATS.get(form, 'unknown')}, {len(body)} bytes>"
