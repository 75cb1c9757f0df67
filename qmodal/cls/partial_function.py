"""Partial functions: functions marked by `@method`, `@enter`, `@concurrent` and their like, for the app to read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    Never,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    overload,
)

from qmodal.client import deprecation as legacy
from qmodal.cls.handles import handle_of
from qmodal.exception import InvalidError
from qmodal.spec.options import check_batching, check_concurrency

if TYPE_CHECKING:
    from qmodal.functions.function import Function

P = ParamSpec("P")
R = TypeVar("R")
OriginalR = TypeVar("OriginalR")
T = TypeVar("T")

Kind: TypeAlias = Literal["method", "batched", "web", "enter", "snap_enter", "exit"]
_HOOKS = frozenset({"enter", "snap_enter", "exit"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialFunction(Generic[P, R, OriginalR]):
    """A function and what decorators have said about it so far; `raw_f` is the function itself."""

    raw_f: Callable[..., OriginalR]
    kind: Kind | None = None
    generator: bool | None = None
    max_batch_size: int | None = None
    wait_ms: int = 0
    max_inputs: int | None = None
    target_inputs: int | None = None
    web: Mapping[str, Any] = field(default_factory=dict)
    recorded: Mapping[str, Any] = field(default_factory=dict)

    @overload
    def __get__(
        self, instance: None, owner: type | None = None
    ) -> PartialFunction[P, R, OriginalR]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> Function[P, R, OriginalR]: ...
    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """On an instance: the method as other code calls it, in the pool of the same parameters."""
        bound = handle_of(instance)
        return self if bound is None else bound._method(_attribute(type(instance), self))

    @property
    def is_generator(self) -> bool:
        """Whether calling it yields items: as declared, else as its code says."""
        return is_generator(self.raw_f) if self.generator is None else self.generator

    @property
    def is_async(self) -> bool:
        """Whether it runs on an event loop."""
        return is_async(self.raw_f)

    @property
    def is_hook(self) -> bool:
        """Whether it belongs to the life of a container rather than to a call."""
        return self.kind in _HOOKS


class BatchMark(Protocol):
    """What `batched` returns: callers give and get one of what the function takes and returns lists of.

    Their parameters cannot be told from those of the function, so type checkers accept any.
    """

    def __call__(
        self, target: Callable[..., list[R]] | Callable[..., Coroutine[Any, Any, list[R]]], /
    ) -> PartialFunction[..., R, Any]:
        """Mark a function."""


class MethodMark(Protocol):
    """What marks a method, whose `self` is not for callers to give."""

    @overload
    def __call__(
        self, target: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
    ) -> PartialFunction[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, target: Callable[Concatenate[Any, P], R], /) -> PartialFunction[P, R, R]: ...


class ClassMark(Protocol):
    """What marks a function, or a class, which then keeps its type for type checkers."""

    @overload
    def __call__(self, target: type[T], /) -> type[T]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(
        self, target: PartialFunction[P, R, OriginalR], /
    ) -> PartialFunction[P, R, OriginalR]: ...
    @overload
    def __call__(
        self, target: Callable[P, Coroutine[Any, Any, R]], /
    ) -> PartialFunction[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, target: Callable[P, R], /) -> PartialFunction[P, R, R]: ...


def is_generator(raw_f: object) -> bool:
    """Whether a function's body yields."""
    return inspect.isgeneratorfunction(raw_f) or inspect.isasyncgenfunction(raw_f)


def is_async(raw_f: object) -> bool:
    """Whether a function is declared with `async def`."""
    return inspect.iscoroutinefunction(raw_f) or inspect.isasyncgenfunction(raw_f)


def method(*bare: Never, is_generator: bool | None = None) -> MethodMark:
    """Make a method of an `@app.cls` class callable from elsewhere."""
    _refuse_bare("method", bare)

    def mark(target: Any) -> Any:
        return replace(as_kind("method", target, "method"), generator=is_generator)

    return mark


def enter(*bare: Never, snap: bool = False) -> MethodMark:
    """Run a method once when its container starts; `snap=True`: before the snapshot is taken."""
    _refuse_bare("enter", bare)

    def mark(target: Any) -> Any:
        return _as_hook("enter", target, "snap_enter" if snap else "enter")

    return mark


def exit(*bare: Never) -> MethodMark:
    """Run a method once before its container stops."""
    _refuse_bare("exit", bare)

    def mark(target: Any) -> Any:
        return _as_hook("exit", target, "exit")

    return mark


def batched(*bare: Never, max_batch_size: int, wait_ms: int) -> BatchMark:
    """Collect single calls into lists: up to `max_batch_size`, for at most `wait_ms` milliseconds."""
    _refuse_bare("batched", bare)
    check_batching(max_batch_size, wait_ms)

    def mark(target: Any) -> Any:
        partial = as_kind("batched", target, "batched")
        _check_batched_function(partial.raw_f)
        return replace(partial, max_batch_size=max_batch_size, wait_ms=wait_ms)

    return mark


def concurrent(
    *bare: Never,
    max_inputs: int | None = None,
    target_inputs: int | None = None,
) -> ClassMark:
    """Let a container run up to `max_inputs` inputs at once; the autoscaler aims at `target_inputs`."""
    _refuse_bare("concurrent", bare)

    def mark(target: Any) -> Any:
        if max_inputs is None:
            raise TypeError("@modal.concurrent() missing required argument: `max_inputs`.")
        check_concurrency(max_inputs, max_inputs if target_inputs is None else target_inputs)
        partial: PartialFunction[..., Any, Any] = _marked("concurrent", target)
        if partial.kind == "method" or partial.is_hook:
            raise InvalidError(_CONCURRENT_ON_METHOD.format(_name(partial)))
        return replace(partial, max_inputs=max_inputs, target_inputs=target_inputs)

    return mark


def as_kind(decorator: str, target: Any, kind: Kind) -> PartialFunction[..., Any, Any]:
    """The function marked as `kind`; raises InvalidError or TypeError if it cannot be that."""
    if isinstance(target, type):
        raise InvalidError(
            f"Cannot apply `@modal.{decorator}` to a class. "
            "Hint: consider applying to a method instead."
        )
    partial = _marked(decorator, target)
    if partial.kind is not None:
        other = partial.web.get("kind") or partial.kind
        raise InvalidError(
            f"`@modal.{decorator}` cannot be combined with the {other!r} decorator "
            f"on {_name(partial)}; use one of them.",
        )
    if kind == "method" and partial.max_inputs is not None:
        raise InvalidError(_CONCURRENT_ON_METHOD.format(_name(partial)))
    return replace(partial, kind=kind)


def methods_of(user_class: type) -> dict[str, PartialFunction[..., Any, Any]]:
    """The methods that calls can reach, by name; raises InvalidError for a class that cannot work."""
    methods = {name: each for name, each in _marked_members(user_class).items() if not each.is_hook}
    for name, each in methods.items():
        if each.max_inputs is not None:
            raise InvalidError(_CONCURRENT_ON_METHOD.format(f"{user_class.__name__}.{name}"))
    if len(methods) > 1 and any(each.kind == "batched" for each in methods.values()):
        raise InvalidError(
            f"Modal class {user_class.__name__} of @modal.batched can have no other method "
            f"for calls; it has {', '.join(methods)}.",
        )
    return methods


def hooks_of(user_class: type, kind: HookKind) -> list[PartialFunction[..., Any, Any]]:
    """The hooks of one kind in the order to run: bases first, then as they were defined."""
    marked = [each for each in _marked_members(user_class).values() if each.kind == kind]
    return marked + [
        PartialFunction(raw_f=raw_f, kind=kind) for raw_f in legacy_hooks(user_class, kind)
    ]


_CONCURRENT_ON_METHOD = (
    "The `@modal.concurrent` decorator cannot be used on the method {}; "
    "put it on the class, below `@app.cls()`: its methods share their containers."
)


def _marked_members(user_class: type) -> dict[str, PartialFunction[..., Any, Any]]:
    # An override without a decorator leaves the base's mark, as in Modal.
    return {
        name: member
        for owner in reversed(user_class.__mro__)
        for name, member in vars(owner).items()
        if isinstance(member, PartialFunction)
    }


def _marked(decorator: str, target: Any) -> PartialFunction[..., Any, Any]:
    if isinstance(target, PartialFunction):
        return target
    if type(target).__module__.split(".")[0] == "qmodal":
        raise InvalidError(
            f"`@modal.{decorator}` cannot be applied to what @app.function or @app.cls has made. "
            "Hint: swap the order of the decorators.",
        )
    if isinstance(target, staticmethod | classmethod) or not callable(target):
        raise TypeError(
            f"`@modal.{decorator}` belongs on a function, not on a {type(target).__name__}.",
        )
    return PartialFunction(raw_f=target)


def _as_hook(decorator: str, target: Any, kind: HookKind) -> PartialFunction[..., Any, Any]:
    partial = as_kind(decorator, target, kind)
    if is_generator(partial.raw_f):
        raise InvalidError(f"`@modal.{decorator}`: {_name(partial)} yields, so it would never run.")
    return partial


def _check_batched_function(raw_f: Callable[..., Any]) -> None:
    if is_generator(raw_f):
        raise InvalidError("`@modal.batched` cannot be used on a generator; return a list.")
    for each in inspect.signature(raw_f).parameters.values():
        if each.default is not inspect.Parameter.empty:
            raise InvalidError(
                f"A batched function cannot have default arguments; `{each.name}` has one.",
            )


def _refuse_bare(decorator: str, bare: tuple[Any, ...]) -> None:
    if bare:
        raise TypeError(
            f"@modal.{decorator} takes keywords only. Did you forget the parentheses? "
            f"Write `@modal.{decorator}(...)`.",
        )


def _attribute(user_class: type, partial: PartialFunction[..., Any, Any]) -> str:
    """What the class calls it: another decorator may have given the function another name."""
    for owner in user_class.__mro__:
        for name, member in vars(owner).items():
            if member is partial:
                return name
    return partial.raw_f.__name__


def _name(partial: PartialFunction[..., Any, Any]) -> str:
    return str(getattr(partial.raw_f, "__qualname__", partial.raw_f))


HookKind: TypeAlias = Literal["enter", "snap_enter", "exit"]
_ENTER, _EXIT = ("__enter__", "__aenter__"), ("__exit__", "__aexit__")


def legacy_hooks(user_class: type, kind: HookKind) -> list[Callable[[Any], Any]]:
    """The class's own hooks of that kind under their old names, none that a base type of Python has."""
    if kind == "enter":
        return [raw for name in _ENTER if (raw := _own(user_class, name)) is not None]
    if kind == "exit":
        return [
            _without_error(raw) for name in _EXIT if (raw := _own(user_class, name)) is not None
        ]
    return []


def note_legacy_hooks(user_class: type) -> None:
    """Warn about them once, when the class is registered."""
    names = [name for name in (*_ENTER, *_EXIT) if _own(user_class, name) is not None]
    if names:
        found = ", ".join(names)
        legacy.warn(
            f"{found} of {user_class.__name__}", "use @enter() and @exit() methods", level=5
        )


def _own(user_class: type, name: str) -> Callable[..., Any] | None:
    for owner in user_class.__mro__:
        raw = vars(owner).get(name)
        if raw is not None:
            is_python = hasattr(raw, "__code__")
            return raw if is_python else None
    return None


def _without_error(raw: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda instance: raw(instance, None, None, None)
