"""What a container runs: a plain function, or the methods of one instance with its parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qmodal import parameters
from qmodal.cls import Cls
from qmodal.exception import ExecutionError
from qmodal.partial import HookKind, hooks_of, methods_of
from qmodal.variant import opened
from qmodal.wire.spec import FunctionSpec, PoolSpec
from qmodal_workers.container.loop import UserLoop


@dataclass(frozen=True, slots=True)
class Service:
    """The callables of a pool by method name ("" for a function), and how to end."""

    callables: dict[str, Callable[..., Any]]
    instance: Any = None
    cls: type | None = None

    def find(self, method: str) -> Callable[..., Any]:
        """The callable of that name; ExecutionError if this version has none."""
        try:
            return self.callables[method]
        except KeyError:
            raise ExecutionError(f"there is no method {method!r} in this version") from None

    def leave(self, loop: UserLoop) -> None:
        """Run the exit hooks; the first that fails stops the rest."""
        if self.cls is not None:
            for hook in hooks_of(self.cls, "exit"):
                loop.finish(hook.raw_f(self.instance))


KINDS: tuple[HookKind, ...] = ("snap_enter", "enter")


def start_service(spec: FunctionSpec, pool: PoolSpec, found: Any, loop: UserLoop) -> Service:
    """Build the instance and run its enter hooks; raises whatever they raise."""
    if not spec.is_class:
        raw = found.get_raw_f() if hasattr(found, "get_raw_f") else found
        return Service({"": raw})
    cls: type = found._user_cls if hasattr(found, "_user_cls") else found
    instance = _build(cls, spec, pool)
    if isinstance(found, Cls):
        found._with(opened(pool.variant))().adopt(instance, pool.parameters)
    for kind in KINDS:
        for hook in hooks_of(cls, kind):
            loop.finish(hook.raw_f(instance))
    bound = {
        name: partial.raw_f.__get__(instance, cls) for name, partial in methods_of(cls).items()
    }
    return Service(bound, instance, cls)


def _build(cls: type, spec: FunctionSpec, pool: PoolSpec) -> Any:
    if spec.parameters is None:
        args, kwargs = parameters.decode_legacy(pool.parameters) if pool.parameters else ((), {})
        return cls(*args, **kwargs)
    instance: Any = object.__new__(cls)
    for name, value in (parameters.decode(pool.parameters) if pool.parameters else {}).items():
        setattr(instance, name, value)
    return instance
