"""`__enter__` and `__exit__` of a class, as hooks of its containers: the spelling before `@enter`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from qmodal.client import deprecation as legacy

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
