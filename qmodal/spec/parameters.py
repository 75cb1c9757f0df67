"""Class parameters: their declaration, their binding, and the bytes that tell pools apart."""

from __future__ import annotations

import enum
import inspect
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal, overload

from qmodal.exception import DeserializationError, InvalidError, SerializationError
from qmodal.wire.foreign import ForeignError, touch, type_name
from qmodal.wire.plain import NotPlain, pack, unpack

SIZE_LIMIT = 16 * 1024
TYPES: dict[str, type] = {"int": int, "str": str, "bytes": bytes, "bool": bool}


class _Unset(enum.Enum):
    """No default was given: a member of an enum, as it stays itself in a class that was pickled."""

    UNSET = enum.auto()


_UNSET: Any = _Unset.UNSET
_TYPED, _LEGACY_PLAIN, _LEGACY_PICKLE = "p", "m", "c"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """The class attribute that `parameter()` leaves; an instance's own attribute goes before it."""

    default: Any
    init: bool

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self
        if self.default is _UNSET:
            raise AttributeError("field has no default value and no specified value")
        return self.default


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSpec:
    """One parameter of a class: `kind` is the name of its type; `default` means nothing if required."""

    name: str
    kind: str
    required: bool
    default: int | str | bytes | bool | None = None

    def to_plain(self) -> list[Any]:
        """A list that msgpack takes and `from_plain` reads."""
        return [self.name, self.kind, self.required, self.default]

    @classmethod
    def from_plain(cls, plain: list[Any]) -> ParameterSpec:
        """The parameter that `to_plain` wrote."""
        name, kind, required, default = plain
        return cls(name=name, kind=kind, required=required, default=default)


@overload
def parameter(*, init: Literal[False], default: Any = ...) -> Any: ...
@overload
def parameter(*, default: Any, init: bool = True) -> Any: ...
@overload
def parameter(*, init: bool = True) -> Any: ...
def parameter(*, default: Any = _UNSET, init: bool = True) -> Any:
    """Declare a class attribute as a parameter of the class (`init=False`: as a plain attribute)."""
    return Parameter(default=default, init=init)


def parameters_of(user_class: type) -> tuple[ParameterSpec, ...]:
    """A class's parameters, those of its bases first; raises InvalidError for a bad declaration."""
    specs: dict[str, ParameterSpec] = {}
    for owner in reversed(user_class.__mro__):
        for name, declared in vars(owner).items():
            if not isinstance(declared, Parameter):
                # A subclass that assigns a plain value has fixed the parameter.
                specs.pop(name, None)
                continue
            if declared.init:
                specs[name] = _spec(name, _kind(owner, name), declared.default)
            else:
                specs.pop(name, None)
    return tuple(specs.values())


def declared_by(user_class: type) -> tuple[str, ...]:
    """The names of a class's `parameter(...)` attributes, also of those that a dataclass has taken."""
    declared: dict[str, Any] = {}
    for owner in reversed(user_class.__mro__):
        # With `slots=True` the declaration remains as the default of a field only.
        fields = vars(owner).get("__dataclass_fields__", {})
        declared |= {**vars(owner), **{name: fields[name].default for name in fields}}
    return tuple(name for name, value in declared.items() if isinstance(value, Parameter))


def bind(
    specs: Iterable[ParameterSpec],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> dict[str, Any]:
    """Every parameter's value, defaults filled in.

    Raises InvalidError for what is missing, unknown or positional, TypeError for a wrong type and
    ValueError for an integer beyond 64 bits.
    """
    if args:
        raise InvalidError(
            "Can't use positional arguments with modal.parameter-based synthetic constructors.\n"
            "Name them: Model(size=3).",
        )
    by_name = {spec.name: spec for spec in specs}
    for spec in by_name.values():
        if spec.required and spec.name not in kwargs:
            raise InvalidError(f"Missing required parameter: {spec.name}")
    unknown = sorted(kwargs.keys() - by_name.keys())
    if unknown:
        raise InvalidError(
            "The following parameter names were provided but are not defined "
            f"as parameters of this class: {', '.join(unknown)}",
        )
    bound = {name: kwargs.get(name, spec.default) for name, spec in by_name.items()}
    for name, value in bound.items():
        _check_value(by_name[name].kind, value)
    return bound


def check_portable(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], *, by_value: bool = True
) -> None:
    """Raise ValueError for a constructor's argument that no process could be sent.

    Without `by_value`, for a class with parameters, that is also code which cannot be imported.
    """
    for name, value in [*enumerate(args), *kwargs.items()]:
        if type(value) in TYPES.values():
            continue
        from qmodal.wire import pickled

        try:
            touch(pickled.dumps if by_value else pickled.dumps_by_reference, value)
        except ForeignError as foreign:
            if issubclass(type(foreign.reason), InvalidError):
                continue  # a handle whose app does not run yet may have done so by the first call
            raise ValueError(
                "Only pickle-able types are allowed in remote class constructors: "
                f"argument {name} of type {type.__repr__(type(value))}: {foreign}"
            ) from foreign.reason


def encode(bound: Mapping[str, Any]) -> bytes:
    """The bytes of bound parameters: equal if and only if names, values and types are."""
    return _within_limit(pack([_TYPED, [[name, bound[name]] for name in sorted(bound)]]))


def decode(encoded: bytes) -> dict[str, Any]:
    """The parameters of `encode`'s bytes; raises DeserializationError."""
    match unpack(encoded):
        case ["p", list() as pairs]:
            return dict(pairs)
        case _:
            raise DeserializationError("These bytes hold no class parameters.")


def encode_legacy(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    init: Callable[..., Any] | None = None,
    plain_only: bool = False,
) -> bytes:
    """The bytes of arguments for a class's own `__init__`: those that were passed, and no others.

    Raises TypeError if `init` does not take them and SerializationError if they cannot be pickled.
    """
    args, ordered = _in_order(init, args, kwargs)
    try:
        return _within_limit(pack([_LEGACY_PLAIN, [[*args], ordered]]))
    except NotPlain as refusal:
        if plain_only:
            raise SerializationError(
                f"QMODAL_PAYLOADS=plain allows only plain constructor arguments: {refusal}",
            ) from None
    from qmodal.wire import pickled

    try:
        arguments = touch(pickled.dumps_tree, (args, ordered))
    except ForeignError as foreign:
        raise SerializationError(
            f"Constructor arguments cannot be pickled: {foreign}"
        ) from foreign.reason
    return _within_limit(pack([_LEGACY_PICKLE, arguments]))


def decode_legacy(encoded: bytes, *, plain_only: bool = False) -> tuple[tuple[Any, ...], Any]:
    """The positional and keyword arguments of `encode_legacy`; raises DeserializationError."""
    from qmodal.wire.payload import load_arguments

    match unpack(encoded):
        case ["m", [list() as args, dict() as kwargs]]:
            return tuple(args), kwargs
        case ["c", bytes() as arguments]:
            return load_arguments("c", arguments, plain_only=plain_only)
        case _:
            raise DeserializationError("These bytes hold no constructor arguments.")


def _kind(owner: type, name: str) -> str:
    annotations = inspect.get_annotations(owner)
    if name not in annotations:
        raise InvalidError(
            "All modal.parameter() specifications need to be type-annotated: "
            f"write `{name}: str = ...` in {owner.__qualname__}.",
        )
    resolved = _resolved(owner, annotations[name])
    for kind, supported in TYPES.items():
        if resolved is supported:
            return kind
    shown = resolved.__name__ if type(resolved) is type else str(resolved)
    raise InvalidError(
        f"Class parameter '{name}': {shown} is not a supported modal.parameter() type. "
        f"Use one of: {', '.join(TYPES)}",
    )


def _resolved(owner: type, annotation: Any) -> Any:
    if not isinstance(annotation, str):
        return annotation
    # One annotation at a time: a name that exists only for type checkers must not spoil the others.
    alone = SimpleNamespace(__annotations__={"alone": annotation})
    module = sys.modules.get(owner.__module__)
    try:
        return typing.get_type_hints(alone, vars(module) if module else {}, dict(vars(owner)))[
            "alone"
        ]
    except (NameError, TypeError, AttributeError, SyntaxError):
        return TYPES.get(annotation, annotation)


def _spec(name: str, kind: str, default: Any) -> ParameterSpec:
    if default is _UNSET:
        return ParameterSpec(name=name, kind=kind, required=True)
    try:
        _check_value(kind, default)
    except (TypeError, ValueError) as reason:
        raise InvalidError(f"Class parameter '{name}': its default: {reason}") from None
    return ParameterSpec(name=name, kind=kind, required=False, default=default)


def _check_value(kind: str, value: Any) -> None:
    expected = TYPES[kind]
    # An enum that is also a str, or numpy's str, would come back as another type.
    if not isinstance(value, expected) or type(value) not in TYPES.values():
        raise TypeError(f"Expected {kind}, got {type_name(value)}")
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise ValueError(f"a class parameter must fit in 64 bits with a sign, {value} does not")


def _in_order(
    init: Callable[..., Any] | None,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments in one spelling, whether they were passed by position or by keyword.

    Defaults stay where they are, with the class: a sentinel or a default factory means something
    only as long as it is that very object, and a lock or a lambda cannot be sent at all.
    """
    if init is not None:
        bound = inspect.signature(init).bind(None, *args, **kwargs)
        args, kwargs = bound.args[1:], bound.kwargs
    return args, {name: kwargs[name] for name in sorted(kwargs)}


def _within_limit(encoded: bytes) -> bytes:
    if len(encoded) > SIZE_LIMIT:
        raise InvalidError(
            f"The parameters of a class take {len(encoded)} bytes together, but the limit is "
            f"{SIZE_LIMIT} (16 KiB); pass a name or a path and load the rest in an @enter method.",
        )
    return encoded
