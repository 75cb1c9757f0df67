"""LocalInstance: an instance of a user's class in this process, for `.local()` and plain attributes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from qmodal.cls.handles import has_room
from qmodal.cls.partial_function import HookKind, hooks_of, methods_of
from qmodal.exception import InvalidError
from qmodal.spec.parameters import ParameterSpec, declared_by, parameters_of

ENTER: tuple[HookKind, ...] = ("snap_enter", "enter")


class LocalInstance:
    """Built without enter hooks; the first local call of a plain method runs them, once."""

    def __init__(self, instance: Any, *, is_entered: bool = False) -> None:
        self.instance = instance
        self._is_entered = is_entered

    @classmethod
    def build(
        cls,
        user_cls: type,
        specs: tuple[ParameterSpec, ...] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> LocalInstance:
        """The instance with its parameters set; raises TypeError for arguments it does not take."""
        if specs is None:
            return cls(user_cls(*args, **kwargs))
        return cls(instance_of(user_cls, _arguments(user_cls, specs, args, kwargs)))

    def method(self, name: str) -> Callable[..., Any]:
        """The bound method; a plain one finds the instance entered, an async one does not."""
        user_cls = type(self.instance)
        partial = methods_of(user_cls)[name]
        if not partial.is_async and not self._is_entered:
            self._is_entered = True
            for kind in ENTER:
                for hook in hooks_of(user_cls, kind):
                    _finish(hook.raw_f(self.instance))
        bound: Callable[..., Any] = partial.raw_f.__get__(self.instance, user_cls)
        return bound


def instance_of(user_cls: type, parameters: Mapping[str, Any]) -> Any:
    """An instance with its parameters set and without `__init__`, which such a class has not."""
    instance: Any = object.__new__(user_cls)
    for name, value in parameters.items():
        try:
            setattr(instance, name, value)
        except AttributeError:
            # A frozen dataclass refuses; its own `__init__` would set them like this.
            object.__setattr__(instance, name, value)
    return instance


def _finish(value: Any) -> None:
    """Wait for an async hook, also within a running loop: the method that needs it is a plain one."""
    if inspect.isawaitable(value):
        import asyncio
        from concurrent.futures import ThreadPoolExecutor

        async def hook() -> None:
            await value

        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, hook()).result()


def _arguments(
    user_cls: type,
    specs: tuple[ParameterSpec, ...],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> dict[str, Any]:
    known = {spec.name: spec for spec in specs}
    unknown = sorted(kwargs.keys() - known.keys())
    missing = [spec.name for spec in specs if spec.required and spec.name not in kwargs]
    if args or unknown or missing:
        raise TypeError(
            f"{user_cls.__name__}() takes the keyword arguments {', '.join(known) or 'none'}; "
            f"missing: {', '.join(missing) or 'none'}, unknown: {', '.join(unknown) or 'none'}"
        )
    return {name: kwargs.get(name, spec.default) for name, spec in known.items()}


def has_constructor(user_cls: type) -> bool:
    """Whether the class has an `__init__` of its own or inherited: the older constructor style."""
    init = inspect.getattr_static(user_cls, "__init__")
    # `typing` gives one to classes that implement a Protocol.
    return init is not object.__init__ and getattr(init, "__module__", None) != "typing"


def check_construction(user_cls: type) -> None:
    """Raise InvalidError for a class whose instances could not be made with its parameters."""
    declared = declared_by(user_cls)
    if declared and has_constructor(user_cls):
        raise InvalidError(
            "A class can't have both a custom __init__ constructor and dataclass-style "
            f"modal.parameter() annotations: {user_cls.__name__} has both. Drop the one or the "
            "other; what __init__ did beside can be done in an `@modal.enter()` method."
        )
    if declared and not has_room(user_cls):
        raise InvalidError(
            f"The instances of {user_cls.__name__} have no room for {', '.join(declared)}: a class "
            "with modal.parameter() attributes cannot have `__slots__`; leave them out."
        )
    if not has_constructor(user_cls):
        parameters_of(user_cls)
