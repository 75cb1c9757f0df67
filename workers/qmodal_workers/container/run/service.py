"""What a container runs: a plain function, or the methods of one instance with its parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qmodal.client.client import current, is_plain_only
from qmodal.cls.cls import Cls
from qmodal.cls.local_instance import instance_of
from qmodal.cls.partial_function import HookKind, hooks_of, methods_of
from qmodal.exception import ExecutionError
from qmodal.functions.function import Function
from qmodal.spec import parameters
from qmodal.spec.documents import FunctionSpec, PoolSpec
from qmodal.spec.options import FunctionOptions
from qmodal.spec.variant import options_in_force, variant_of
from qmodal_workers.container.run.user_loop import UserLoop

if TYPE_CHECKING:
    from qmodal_workers.container.web.functions import WebFunctions


@dataclass(frozen=True, slots=True)
class Service:
    """The callables of a pool by method name ("" for a function), and how to end.

    `generators` and `batched` are names of those that are generators, and that take and return lists. `web` are those
    that answer requests; their callables are there once it has started.
    """

    callables: dict[str, Callable[..., Any]]
    instance: Any = None
    cls: type | None = None
    generators: frozenset[str] = frozenset()
    batched: frozenset[str] = frozenset()
    handle: Any = None  # kept, as an instance with `__slots__` does not refer to its own
    web: WebFunctions | None = None

    def find(self, method: str) -> Callable[..., Any]:
        """The callable of that name; ExecutionError if this version has none."""
        try:
            return self.callables[method]
        except KeyError:
            raise ExecutionError(f"there is no method {method!r} in this version") from None

    @property
    def is_async(self) -> bool:
        """Whether no callable is plain code, which would run on a thread for as long as it takes."""
        return all(map(is_async, self.callables.values()))

    def enter(self, loop: UserLoop) -> None:
        """Run the enter hooks without `snap=True`, and start the web functions; raises whatever they raise."""
        if self.web is not None:
            self.web.check(loop)
        if self.cls is not None:
            _run_hooks(self.cls, self.instance, "enter", loop)
        if self.web is not None:
            self.web.start(self.callables, current(), loop)

    def leave(self, loop: UserLoop) -> None:
        """Shut the web functions down, and run the exit hooks; raises what the first one that fails raises.

        No exit hook runs after another one that has failed.
        """
        try:
            if self.web is not None:
                self.web.stop(loop)
        finally:
            if self.cls is not None:
                _run_hooks(self.cls, self.instance, "exit", loop)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether it is an async function, or an async generator."""
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def build_service(spec: FunctionSpec, pool: PoolSpec, found: Any, loop: UserLoop) -> Service:
    """Build the instance and run its `snap=True` hooks; raises whatever they raise."""
    options = options_in_force(spec, pool)
    is_batched, web = options.max_batch_size is not None, _web_functions(spec, options)
    if not spec.is_class:
        raw = found._raw() if isinstance(found, Function) else found
        batched = frozenset({""} if is_batched else ())
        return Service({"": raw}, generators=_generators(spec), batched=batched, web=web)
    cls: type = found._user_cls if hasattr(found, "_user_cls") else found
    instance = _build(cls, spec, pool)
    handle = None
    if isinstance(found, Cls):
        handle = found._with(variant_of(pool))()
        handle._adopt(instance, pool.parameters)
    _run_hooks(cls, instance, "snap_enter", loop)
    methods = methods_of(cls)
    return Service(
        {name: partial.raw_f.__get__(instance, cls) for name, partial in methods.items()},
        instance,
        cls,
        _generators(spec),
        frozenset(methods if is_batched else ()),
        handle,
        web,
    )


def _web_functions(spec: FunctionSpec, options: FunctionOptions) -> WebFunctions | None:
    if not options.recorded.get("web"):
        return None
    from qmodal.spec.web import web_methods
    from qmodal_workers.container.web.functions import WebFunctions

    declared = tuple(map(parameters.ParameterSpec.from_plain, map(list, spec.parameters or ())))
    return WebFunctions(web_methods(options), declared, options.max_inputs)


def _generators(spec: FunctionSpec) -> frozenset[str]:
    return frozenset(name for name, method in spec.methods.items() if method.is_generator)


def _run_hooks(cls: type, instance: Any, kind: HookKind, loop: UserLoop) -> None:
    for hook in hooks_of(cls, kind):
        loop.finish_here(hook.raw_f(instance))


def _build(cls: type, spec: FunctionSpec, pool: PoolSpec) -> Any:
    if spec.parameters is None:
        if not pool.parameters:
            return cls()
        args, kwargs = parameters.decode_legacy(pool.parameters, plain_only=is_plain_only())
        return cls(*args, **kwargs)
    return instance_of(cls, parameters.decode(pool.parameters) if pool.parameters else {})
