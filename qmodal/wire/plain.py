"""Plain values to msgpack and back: exactly, or not at all.

Plain is None, bool, int, float, str, bytes, list and dict, which any language reads, and tuple, set,
frozenset, complex, date, datetime, timedelta and integers beyond 64 bits, which are extension types.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta, timezone
from functools import partial
from itertools import chain
from types import NoneType
from typing import Any

import msgpack

from qmodal.exception import DeserializationError, SerializationError
from qmodal.wire.foreign import module_and_name, type_name

MAX_DEPTH = 64

SCALARS = frozenset(
    {NoneType, bool, int, float, str, bytes, complex, datetime, date, timedelta},
)
CONTAINERS = frozenset({list, dict, tuple, set, frozenset})
_PLAIN = SCALARS | CONTAINERS

_BIG_INT, _TUPLE, _SET, _FROZENSET, _COMPLEX, _DATETIME, _DATE, _TIMEDELTA = range(1, 9)
_COMPLEX_FORM = struct.Struct(">dd")

# The packer takes bytearray, memoryview and its own extension objects without asking us. All of them
# begin with one of these bytes, so most packed values are known to be exact without looking inside.
_BIN_OR_EXT = bytes([*range(0xC4, 0xCA), *range(0xD4, 0xD9)])
_NESTING = bytes([*range(0x80, 0xA0), *range(0xDC, 0xE0), *_BIN_OR_EXT])
_WORTH_COUNTING = 4096
_EXACTLY: dict[str, Any] = {
    "strict_map_key": False,
    "timestamp": 3,
    "unicode_errors": "surrogatepass",
}


class NotPlain(SerializationError):
    """The value holds something that msgpack cannot give back exactly."""


def pack(value: object) -> bytes:
    """The msgpack bytes from which `unpack` makes an equal value of equal types; raises NotPlain."""
    packed = pack_checked(value)
    if type(value) not in SCALARS and _may_hide(packed) and not _is_exact(value):
        raise NotPlain(
            f"{type_name(value)} is not plain: it holds a type that msgpack would change, "
            f"or is nested more than {MAX_DEPTH} deep",
        )
    return packed


def pack_checked(value: object) -> bytes:
    """As `pack`, of a value in which there is nothing else than plain types, not too deep."""
    try:
        return _pack(value, _extension)
    except (TypeError, ValueError, OverflowError, RecursionError) as reason:
        raise NotPlain(f"{type_name(value)} is not plain: {reason}") from None


def pack_scalar_columns(columns: Sequence[Sequence[Any]]) -> bytes:
    """As `pack([{}, lists of the columns])`, of columns that hold scalars only."""
    # Nothing in it is a tuple or of a derived class, so that the columns themselves can pass for lists.
    packer = msgpack.Packer(default=_extension, unicode_errors="surrogatepass")
    try:
        packed: bytes = packer.pack(({}, columns))
    except (ValueError, OverflowError) as reason:
        raise NotPlain(f"the inputs are not plain: {reason}") from None
    return packed


def pack_scalars(values: list[Any]) -> bytes:
    """As `pack`, of values that are known to be None, booleans, numbers, text or bytes."""
    return _pack(values, _extension)


def join(packed: Sequence[bytes]) -> bytes:
    """The list of values of which each is packed already."""
    head: bytes = msgpack.Packer().pack_array_header(len(packed))
    return head + b"".join(packed)


def unpack(packed: bytes, most: int = MAX_DEPTH) -> Any:
    """The value of `pack`'s bytes; raises DeserializationError for any other bytes."""
    value = _unpacked(packed)
    if _may_be_deep(packed) and not _is_exact(value, most):
        raise DeserializationError(f"These bytes are nested more than {most} deep.")
    return value


def unpack_joined(packed: bytes) -> Any:
    """The values of `join`'s bytes, each nested as deep as one may be; raises as `unpack`."""
    return unpack(packed, MAX_DEPTH + 1)


def unpack_columns(packed: bytes) -> Any:
    """The value of `pack_columns`' bytes, looked through at once if all of them hold scalars only."""
    value = _unpacked(packed)
    try:
        is_flat = not value[0] and set(map(type, chain.from_iterable(value[1]))) <= SCALARS
    except (TypeError, LookupError):
        is_flat = False
    if not is_flat and not _is_exact(value):
        raise DeserializationError(f"These bytes are nested more than {MAX_DEPTH} deep.")
    return value


def _unpacked(packed: bytes) -> Any:
    try:
        return msgpack.unpackb(packed, ext_hook=_restore_outermost, **_EXACTLY)
    except (
        TypeError,
        ValueError,
        OverflowError,
        RecursionError,
        MemoryError,
        struct.error,
        msgpack.UnpackException,
    ) as reason:
        raise DeserializationError(f"These bytes are no plain value: {reason}") from None


def _pack(value: object, default: Callable[[Any], object]) -> bytes:
    # A fresh packer costs 0.1 µs and is safe in threads and in a signal that interrupts another pack.
    packer = msgpack.Packer(default=default, strict_types=True, unicode_errors="surrogatepass")
    packed: bytes = packer.pack(value)
    return packed


def _unpack(packed: bytes, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    return msgpack.unpackb(packed, ext_hook=partial(_restore, depth), **_EXACTLY)


def _may_hide(packed: bytes) -> bool:
    return (
        len(packed) > _WORTH_COUNTING
        or len(packed.translate(None, _BIN_OR_EXT)) != len(packed)
        or _may_be_deep(packed)
    )


def _may_be_deep(packed: bytes) -> bool:
    size = len(packed)
    return size > MAX_DEPTH and (
        size > _WORTH_COUNTING or size - len(packed.translate(None, _NESTING)) > MAX_DEPTH
    )


def _is_exact(value: object, most: int = MAX_DEPTH) -> bool:
    """Whether all of it is plain and not too deep; a flat list costs no Python step per element."""
    groups: list[Iterable[Any]] = [(value,)]
    for _ in range(most + 1):
        kinds = set(map(type, chain.from_iterable(groups)))
        if kinds <= SCALARS:
            return True
        if not kinds <= _PLAIN:
            return False
        groups = list(_children(chain.from_iterable(groups)))
    return False


def _children(nodes: Iterable[Any]) -> Iterator[Iterable[Any]]:
    for node in nodes:
        if type(node) in CONTAINERS:
            yield node
        if type(node) is dict:
            yield node.values()


def _extension(value: Any, depth: int = 0) -> msgpack.ExtType:
    kind = type(value)
    if kind in _CODE_OF_ITEMS:
        if depth >= MAX_DEPTH:
            raise NotPlain(f"{kind.__name__} is not plain: nested more than {MAX_DEPTH} deep")
        body = _pack(list(value), partial(_extension, depth=depth + 1))
        return msgpack.ExtType(_CODE_OF_ITEMS[kind], body)
    if kind not in _ENCODERS:
        raise NotPlain(f"{'.'.join(module_and_name(kind))} is not a plain type")
    code, encode = _ENCODERS[kind]
    return msgpack.ExtType(code, encode(value))


def _encode_int(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _encode_datetime(value: datetime) -> bytes:
    zone = value.tzinfo
    if value.fold or not (zone is None or type(zone) is timezone):
        raise NotPlain("a datetime with a fold or a time zone of changing offset is not plain")
    fields: list[int | str] = [*value.timetuple()[:6], value.microsecond]
    if zone is not None:
        offset, name = zone.utcoffset(None), zone.tzname(None)
        fields.append(offset // timedelta(microseconds=1))
        if name != timezone(offset).tzname(None):
            fields.append(name)
    return _pack(fields, _extension)


def _encode_date(value: date) -> bytes:
    return _pack([value.year, value.month, value.day], _extension)


def _encode_timedelta(value: timedelta) -> bytes:
    return _pack([value.days, value.seconds, value.microseconds], _extension)


def _restore_outermost(code: int, body: bytes) -> object:
    return _restore(0, code, body)


def _restore(depth: int, code: int, body: bytes) -> object:
    decode = _DECODERS.get(code)
    if decode is None:
        raise ValueError(f"unknown extension type {code}")
    return decode(body, depth + 1)


def _items(body: bytes, depth: int) -> list[Any]:
    items = _unpack(body, depth)
    if type(items) is not list:
        raise ValueError("an extension type without its list")
    return items


def _decode_datetime(body: bytes, depth: int) -> datetime:
    fields = _items(body, depth)
    zone = None
    if len(fields) > 7:
        offset, *name = fields[7:]
        zone = timezone(timedelta(microseconds=offset), *name)
    return datetime.combine(date(*fields[:3]), time(*fields[3:7]), tzinfo=zone)


_CODE_OF_ITEMS: dict[type, int] = {tuple: _TUPLE, set: _SET, frozenset: _FROZENSET}
_ENCODERS: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    int: (_BIG_INT, _encode_int),
    complex: (_COMPLEX, lambda value: _COMPLEX_FORM.pack(value.real, value.imag)),
    datetime: (_DATETIME, _encode_datetime),
    date: (_DATE, _encode_date),
    timedelta: (_TIMEDELTA, _encode_timedelta),
}
_DECODERS: dict[int, Callable[[bytes, int], object]] = {
    _BIG_INT: lambda body, _: int.from_bytes(body, "big", signed=True),
    _TUPLE: lambda body, depth: tuple(_items(body, depth)),
    _SET: lambda body, depth: set(_items(body, depth)),
    _FROZENSET: lambda body, depth: frozenset(_items(body, depth)),
    _COMPLEX: lambda body, _: complex(*_COMPLEX_FORM.unpack(body)),
    _DATETIME: _decode_datetime,
    _DATE: lambda body, depth: date(*_items(body, depth)),
    _TIMEDELTA: lambda body, depth: timedelta(*_items(body, depth)),
}
