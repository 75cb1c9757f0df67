"""Arguments and results as bytes: plain msgpack if that is exact, else pickle, else code by value."""

from __future__ import annotations

from collections.abc import Iterator
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Literal, TypeAlias

from qmodal.exception import (
    DeserializationError,
    ExecutionError,
    InvalidError,
    SerializationError,
)
from qmodal.wire.foreign import ForeignError, describe, touch, type_name
from qmodal.wire.plain import NotPlain, pack, unpack
from qmodal.wire.trees import pack_arguments, pack_value

# m: plain msgpack. p: pickle that only refers to importable modules. c: pickle that carries code.
Format: TypeAlias = Literal["m", "p", "c"]
Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]

_SEQUENCES = frozenset({list, tuple})
_UNFINISHED = (GeneratorType, AsyncGeneratorType, CoroutineType)
_PLAIN_ONLY = "QMODAL_PAYLOADS=plain allows only plain values"


def dump_arguments(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    plain_only: bool,
    main_by_reference: bool,
) -> tuple[Format, bytes]:
    """One input's arguments as bytes.

    `main_by_reference` says that the other side finds the classes and functions of this process's
    `__main__` under that name. Raises SerializationError, which names the argument.
    """
    try:
        return "m", pack_arguments(args, kwargs, may_share=plain_only)
    except NotPlain as refusal:
        if plain_only:
            raise SerializationError(_not_plain(args, kwargs, refusal)) from None
    return _pickle_arguments(args, kwargs, main_by_reference=main_by_reference)


def load_arguments(form: str, payload: bytes, *, plain_only: bool) -> Arguments:
    """The arguments of `dump_arguments`' bytes; raises DeserializationError."""
    # As `load`; for each input a step less counts.
    loaded = unpack(payload) if form == "m" else load(form, payload, plain_only=plain_only)
    if type(loaded) in _SEQUENCES and len(loaded) == 2:
        args, kwargs = loaded
        names_fit = type(kwargs) is dict and (
            not kwargs or all(isinstance(name, str) for name in kwargs)
        )
        if names_fit and type(args) in _SEQUENCES:
            return tuple(args), kwargs
    raise DeserializationError("These bytes hold no arguments of a function.")


def dump_value(
    value: object,
    *,
    plain_only: bool,
    main_by_reference: bool = False,
) -> tuple[Format, bytes]:
    """A result as bytes.

    Raises SerializationError for what is not plain when only that is allowed, TypeError for a
    running generator or coroutine, else what the value's own pickling raises: as it is if that is an
    Exception, as a SerializationError if not.
    """
    try:
        return "m", pack_value(value, may_share=plain_only)
    except NotPlain as refusal:
        if plain_only:
            raise SerializationError(f"{_PLAIN_ONLY}, but the result: {refusal}") from None
    if issubclass(type(value), _UNFINISHED):
        raise TypeError(
            f"The function returned a {type_name(value)}, which cannot leave its process; "
            "yield from the function itself, or return a list.",
        )
    from qmodal.wire import pickled

    try:
        return _with_format(touch(pickled.dumps, value, main_by_reference=main_by_reference))
    except ForeignError as foreign:
        reason = foreign.reason
    if issubclass(type(reason), Exception):
        raise reason
    raise SerializationError(f"The result cannot be pickled: {describe(reason)}") from reason


def load_value(form: str, payload: bytes, *, plain_only: bool) -> Any:
    """The value of `dump_value`'s bytes; raises ExecutionError if it cannot be rebuilt here."""
    try:
        return load(form, payload, plain_only=plain_only)
    except DeserializationError as error:
        reason = error if error.__cause__ is None else error.__cause__
        raise ExecutionError(
            f"Could not deserialize result due to error: {describe(reason)}",
        ) from error


def load(form: str, payload: bytes, *, plain_only: bool) -> Any:
    """What these bytes hold; raises DeserializationError."""
    if form == "m":
        return unpack(payload)
    if plain_only:
        raise DeserializationError(f"The payload is pickled, but {_PLAIN_ONLY}.")
    return _unpickle(form, payload)


def _unpickle(form: str, payload: bytes) -> Any:
    if form not in {"p", "c"}:
        raise DeserializationError(
            f"Payload format {form!r} is unknown here; both sides must run the same qmodal.",
        )
    from qmodal.wire import pickled

    try:
        return touch(pickled.loads, payload)
    except ForeignError as foreign:
        reason = foreign.reason
    if type(reason) is ModuleNotFoundError and type(reason.name) is str:
        raise DeserializationError(
            f"Deserialization failed because the '{reason.name}' module is not available "
            "in the remote environment.",
        ) from reason
    raise DeserializationError(f"The pickle cannot be loaded: {describe(reason)}") from reason


def _pickle_arguments(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    main_by_reference: bool,
) -> tuple[Format, bytes]:
    from qmodal.wire import pickled

    try:
        payload = touch(pickled.dumps, (args, kwargs), main_by_reference=main_by_reference)
    except ForeignError as foreign:
        reason = foreign.reason
    else:
        return _with_format(payload)
    if issubclass(type(reason), InvalidError):  # a handle that cannot travel says so itself
        raise reason
    _blame_one(args, kwargs, main_by_reference=main_by_reference)
    raise SerializationError(f"The arguments cannot be pickled: {describe(reason)}") from reason


def _blame_one(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    main_by_reference: bool,
) -> None:
    from qmodal.wire import pickled

    for name, value in _named(args, kwargs):
        try:
            touch(pickled.dumps, value, main_by_reference=main_by_reference)
        except ForeignError as foreign:
            raise SerializationError(
                f"{name} of type {type_name(value)} cannot be pickled: {foreign}",
            ) from foreign.reason


def _not_plain(args: tuple[Any, ...], kwargs: dict[str, Any], refusal: NotPlain) -> str:
    for name, value in _named(args, kwargs):
        try:
            pack(value)
        except NotPlain as reason:
            return f"{_PLAIN_ONLY}, but {name}: {reason}"
    return f"{_PLAIN_ONLY}: {refusal}"


def _named(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for position, value in enumerate(args):
        yield f"argument {position + 1}", value
    for name, value in kwargs.items():
        yield f"argument {name!r}", value


def _with_format(payload: bytes) -> tuple[Format, bytes]:
    from qmodal.wire import pickled

    return ("c" if pickled.holds_code(payload) else "p"), payload
