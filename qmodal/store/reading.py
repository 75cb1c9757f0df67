"""Decodes values from the server, which anybody with its password may have written.

A single odd member, field or report is left out and said once; whoever reads many goes on with the rest.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgpack

from qmodal.exception import InternalFailure
from qmodal.transport.defects import skip
from qmodal.transport.errors import ReplyAction, judge
from qmodal.transport.operation import Op, Reply, ask_each, ask_one

R = TypeVar("R")
# Counters of the server are no larger, and the arithmetic with them stays within floats.
LARGEST = 2**63 - 1
# Learned times and leases beyond that are nobody's: about thirty years in seconds.
LONGEST_SECONDS = 1e9
# No lease ends later and no retry is due later; what anybody has written stays a number that can be counted with.
LATEST_MS = 2.0**53


def text(raw: object, where: str) -> str | None:
    """The text, None if it is no UTF-8 (or an error reply); `where` it was found is said."""
    if isinstance(raw, bytes):
        try:
            return raw.decode()
        except UnicodeDecodeError:
            skip(where, f"{raw[:40]!r} is no text")
            return None
    return None


def name(raw: bytes) -> str:
    """A consumer's name, which nobody but the server checks; `raw_name` gives its bytes back."""
    return raw.decode(errors="surrogateescape")


def raw_name(decoded: str) -> bytes:
    """The bytes of a name from `name`."""
    return decoded.encode(errors="surrogateescape")


def whole(raw: object) -> int | None:
    """The whole number of 64 bits that a counter is; None for anything else."""
    try:
        found = int(raw) if isinstance(raw, bytes | int) and len(str(raw)) < 30 else None
    except ValueError:
        return None
    return None if found is None or not -LARGEST <= found <= LARGEST else found


def seconds(raw: object, where: str) -> float | None:
    """The learned time; None if there is none, or nothing that a time can be."""
    if not isinstance(raw, bytes):
        return None
    try:
        found = float(raw)
    except ValueError:
        found = math.nan
    if 0 <= found <= LONGEST_SECONDS:
        return found
    skip(where, f"{raw[:40]!r} is no time")
    return None


def is_readable(reply: object, where: str) -> bool:
    """Whether the key has the type that it should have; says so if not."""
    if isinstance(reply, Exception):
        skip(where, f"it cannot be read ({reply})")
    return not isinstance(reply, Exception)


def is_foreign(reply: object) -> bool:
    """Whether the reply says that the key is of another type: only somebody else can have made it so."""
    return isinstance(reply, Exception) and judge(reply) is ReplyAction.FOREIGN


def ask_mending(key: str, *command: Any) -> Op[Reply]:
    """The reply to a command about this key, which is removed first if it is of another type."""
    (reply,) = yield from ask_each([command])
    if not isinstance(reply, Exception):
        return reply
    if is_foreign(reply):
        skip(key, "it is of another type, and is removed")
        yield from ask_one(b"UNLINK", key)
    return (yield from ask_one(*command))


def pairs(reply: object) -> list[tuple[bytes, bytes]]:
    """The fields and values of a hash, or members and scores."""
    flat: Sequence[bytes] = reply if isinstance(reply, list) else ()
    return list(zip(flat[::2], flat[1::2], strict=True))


def texts(reply: object, where: str) -> dict[str, str]:
    """The fields of a hash of names, without those that are none."""
    found: dict[str, str] = {}
    for field, value in pairs(reply):
        key, said = text(field, where), text(value, where)
        if key is not None and said is not None:
            found[key] = said
    return found


def mapping(packed: object, where: str) -> dict[str, Any] | None:
    """The msgpack map with text keys; None if it is anything else."""
    try:
        found = msgpack.unpackb(packed) if isinstance(packed, bytes) else None
    except (ValueError, msgpack.UnpackException):
        found = None
    if isinstance(found, dict) and all(isinstance(key, str) for key in found):
        return found
    skip(where, "it is no map in msgpack")
    return None


def report(packed: object, kind: Callable[..., R], where: str) -> R | None:
    """The dataclass that these bytes hold, each field of its declared type; None if they do not.

    Fields that this release does not know are left out: a newer one may report more.
    """
    plain = mapping(packed, where)
    if plain is None:
        return None
    known = _declared(kind)
    given = {each: _frozen(value) for each, value in plain.items() if each in known}
    odd = [each for each, value in given.items() if not is_a(value, known[each])]
    try:
        if not odd:
            return kind(**given)
        skip(where, f"{odd[0]!r} has another type")
    except TypeError as error:
        skip(where, str(error))
    return None


def unreadable(key: str, why: object) -> InternalFailure:
    """The error for a record that is there and cannot be read."""
    return InternalFailure(
        f"what is stored at {key} cannot be read ({why}): it was changed by something else than "
        "qmodal. Restore it, or delete that key and make it anew."
    )


def _frozen(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


@cache
def _declared(kind: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(kind)


def is_a(value: object, declared: Any) -> bool:
    """Whether a plain value is of the declared type: scalars, literals, tuples of one, unions."""
    origin, inner = get_origin(declared), get_args(declared)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin is tuple:
        return isinstance(value, tuple) and all(is_a(each, inner[0]) for each in value)
    if origin in (Union, types.UnionType):
        return any(is_a(value, each) for each in inner)
    if declared is float:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    return type(value) is declared
