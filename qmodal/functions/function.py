"""Function: the handle of a function or method that runs in a pool of containers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, Unpack

from qmodal.client import deprecation as legacy
from qmodal.client.context import is_local
from qmodal.client.process import state
from qmodal.client.signatures import names_of
from qmodal.client.verb import Stream, old_verb, stream_verb, verb
from qmodal.exception import ExecutionError, InvalidError
from qmodal.functions import (
    autoscaler as pool_verbs,
    generator as streaming,
    remote as invocation,
)
from qmodal.functions.autoscaler import Autoscaler
from qmodal.functions.call import FunctionCall
from qmodal.functions.definition import (
    FixedSource,
    LocalSource,
    NamedSource,
    Source,
    app_of,
    local_entry,
    portable,
)
from qmodal.functions.info import describe
from qmodal.functions.map.verbs import MapVerbs
from qmodal.functions.target import (
    Binding,
    Target,
    check_function,
    check_generator,
    target_of,
)
from qmodal.functions.web import check_called, web_infos, web_specs, web_url
from qmodal.output.logs import LogSource, LogVerbs
from qmodal.spec.keywords.typed import VariantOptions
from qmodal.spec.registry import Definition
from qmodal.spec.variant import Variant
from qmodal.transport.operation import Op
from qmodal.types import FunctionAutoscalerSettings, FunctionCurrentStats, FunctionInfo

P = ParamSpec("P")
R = TypeVar("R")
OriginalR = TypeVar("OriginalR")


class Function(MapVerbs[R], legacy.FunctionNames, Generic[P, R, OriginalR]):
    """A function that runs elsewhere; made by `@app.function()` or found with `from_name`.

    It has the name, the docstring and the module of the function that it is made of; that is its `__wrapped__`.

    >>> square.remote(3)
    9
    """

    __name__: str
    __wrapped__: Callable[P, OriginalR]

    def __init__(
        self,
        source: Source,
        name: str,
        *,
        raw_f: Callable[..., Any] | None = None,
        local: Callable[..., Any] | None = None,
        binding: Binding | None = None,
        variant: Variant | None = None,
    ) -> None:
        self._source = source
        self._name = name
        self._raw_f = raw_f
        self._local = local or raw_f
        if self._local is not None:
            vars(self).update(names_of(self._local), __wrapped__=self._local)
        self._binding = binding
        self._variant = variant or Variant()
        self._known: tuple[Definition, Target] | None = None
        self._plain: tuple[Definition, Target] | None = None  # checked: neither web nor generator

    def __repr__(self) -> str:
        return f"Function({self._name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (portable(self._source), self._name, self._binding, self._variant)

    @classmethod
    def from_name(
        cls,
        app_name: str,
        name: str,
        *,
        version: int | None = None,
        environment_name: str | None = None,
        client: Any = None,
    ) -> Function[..., Any, Any]:
        """The function of a deployed app, looked up on first use. Raises InvalidError for a method.

        >>> Function.from_name("reports", "summarize").remote("2026-11")
        """
        if "." in name:
            owner, _, method = name.partition(".")
            raise InvalidError(
                f"Cannot look up the method {name!r} as a function; "
                f"use `qmodal.Cls.from_name({app_name!r}, {owner!r})().{method}`."
            )
        source = NamedSource(app_name, name, environment_name, is_class=False, number=version)
        return Function(source, name)

    @invocation.remote_verb
    def remote(self, /, *args: P.args, **kwargs: P.kwargs) -> Op[R]:
        """Run it in its pool and wait for the result; raises what it raises."""
        target = yield from self._plain_target("remote")
        result: R = yield from invocation.remote(target, (args, kwargs))
        return result

    @stream_verb
    def remote_gen(self, /, *args: P.args, **kwargs: P.kwargs) -> Stream[Any]:
        """Run a generator in its pool; its items as they are produced, once iteration begins.

        >>> for line in lines_of.remote_gen("log.txt"): ...
        """
        return streaming.ItemStream(self._generator_target, (args, kwargs))

    @verb
    def spawn(self, /, *args: P.args, **kwargs: P.kwargs) -> Op[FunctionCall[R]]:
        """Run it in its pool; the handle comes back as soon as the input is accepted."""
        target = yield from self._plain_target("spawn")
        call = yield from invocation.spawn(target, (args, kwargs))
        return FunctionCall(call, 1)

    @property
    def local(self) -> Callable[P, OriginalR]:
        """The function itself, run in this process."""
        if self._local is None:
            raise ExecutionError(
                f"The definition of {self._name!r} is not here, so it cannot be called locally; "
                "import the module that defines it."
            )
        _note_volumes(self._source, self._name)
        return self._local

    @verb
    def hydrate(self) -> Op[Function[P, R, OriginalR]]:
        """Find out now, rather than on first use, what this handle stands for; returns itself."""
        yield from self._target()
        return self

    @verb
    def get_current_stats(self) -> Op[FunctionCurrentStats]:
        """The pool at this moment: backlog, containers, running inputs, free slots."""
        target = yield from self._target()
        return (yield from pool_verbs.current_stats(target))

    @old_verb("Function.update_autoscaler", "use Function.autoscaler.update")
    def update_autoscaler(
        self,
        *,
        min_containers: int | None = None,
        max_containers: int | None = None,
        buffer_containers: int | None = None,
        scaledown_window: int | None = None,
        scaleup_softness: float | None = None,
        scaleup_window: int | None = None,
    ) -> Op[FunctionAutoscalerSettings]:
        """Change the pool's limits while it runs; None leaves one as it is. In force in 0.3 s.

        Lasts until the next deploy. Raises InvalidError for a method: the instance has the pool.
        """
        return pool_verbs.update_autoscaler(
            self._pool_target,
            min_containers=min_containers,
            max_containers=max_containers,
            buffer_containers=buffer_containers,
            scaledown_window=scaledown_window,
            scaleup_softness=scaleup_softness,
            scaleup_window=scaleup_window,
        )

    @property
    def autoscaler(self) -> Autoscaler:
        """Read and change the pool's limits: `f.autoscaler.update(max_containers=4)`."""
        return Autoscaler(self._pool_target)

    @verb
    def info(self, *, refresh: bool = False) -> Op[FunctionInfo]:
        """How the function is configured; what was published does not change under a handle."""
        definition = yield from self._source.definition()
        web = yield from web_infos(definition)
        return describe(definition.spec, self._variant, web)

    @property
    def logs(self) -> LogVerbs:
        """What the containers of its pool printed: `fetch(since=...)`, `tail(100)`, `stream()`."""
        return LogVerbs(self._log_source)

    def with_options(self, **options: Unpack[VariantOptions]) -> Function[P, R, OriginalR]:
        """The same function in a pool of its own with these options; raises InvalidError.

        >>> heavy = square.with_options(timeout=3600, max_containers=2)
        """
        return self._with(self._variant.with_options(**options))

    def with_concurrency(
        self, *, max_inputs: int, target_inputs: int | None = None
    ) -> Function[P, R, OriginalR]:
        """The same function in a pool of its own, for several inputs at once in a container.

        >>> busy = fetch.with_concurrency(max_inputs=100, target_inputs=50)
        """
        return self._with(self._variant.with_concurrency(max_inputs, target_inputs))

    def with_batching(self, *, max_batch_size: int, wait_ms: int) -> Function[P, R, OriginalR]:
        """The same function in a pool of its own, where it takes lists of inputs.

        >>> batched = embed.with_batching(max_batch_size=32, wait_ms=20)
        """
        return self._with(self._variant.with_batching(max_batch_size, wait_ms))

    def get_raw_f(self) -> Callable[P, OriginalR]:
        """The decorated Python function itself."""
        legacy.warn("Function.get_raw_f", "keep the function under a name of its own")
        return self._raw()

    def _raw(self) -> Callable[P, OriginalR]:
        if self._raw_f is None:
            raise ExecutionError(f"The definition of {self._name!r} is not in this process.")
        return self._raw_f

    @verb
    def get_web_url(self) -> Op[str | None]:
        """Where a web function answers: below QMODAL_WEB_URL if that is set, else at the newest gateway.

        None if it is no web function, or no gateway runs. Raises InvalidError for a function that `with_options` has
        changed: requests reach only what the app defines.
        """
        definition = yield from self._source.definition()
        if self._method not in web_specs(definition.spec):
            return None
        if self._variant.changes:
            raise InvalidError(
                f"No request reaches {self._name!r} with other options than its own: give them to its decorator."
            )
        return (yield from web_url(definition.app_id, definition.spec.tag, self._method))

    @old_verb("Function.get_web_uri", "use Function.get_web_url")
    def get_web_uri(self) -> Op[str | None]:
        """As `get_web_url`."""
        return self.get_web_url.op()

    @property
    def is_web(self) -> bool:
        """Whether the local definition is a web function."""
        entry = local_entry(self._source)
        return entry is not None and self._method in entry.options.recorded.get("web", {})

    @property
    def object_id(self) -> str:
        """`fu-...`: the id of the pool; AttributeError before hydration."""
        if self._known is None:
            raise AttributeError(f"{self._name!r} is not hydrated, so it has no object_id yet")
        return f"fu-{self._known[1].pool}"

    @property
    def app(self) -> Any:
        """The app that it is defined on here."""
        return app_of(self._source, self._name)

    @property
    def _app(self) -> Any:
        # Containers ask whatever they find under the name that they serve.
        return getattr(self, "app", None)

    @property
    def is_generator(self) -> bool:
        """Whether it yields items, as declared or as its code says."""
        if self._known is not None:
            return self._known[1].is_generator
        entry = local_entry(self._source)
        known = None if entry is None else entry.methods.get(self._method)
        return known is not None and known.is_generator

    @property
    def _method(self) -> str:
        return "" if self._binding is None else self._binding.method

    def _target(self) -> Op[Target]:
        definition = yield from self._source.definition()
        known = self._known
        if known is None or known[0] is not definition:
            target = target_of(definition, self._binding, self._variant, self._name)
            known = self._known = (definition, target)
            # What eager mode has found is not there any more when it ends.
            if not isinstance(self._source, LocalSource) and state.eager is None:
                self._source = FixedSource(definition)
        return known[1]

    def _plain_target_at_hand(self) -> Target | None:
        """The target, if it is known already to be neither web nor generator."""
        plain = self._plain
        return None if plain is None or not self._source.stands_for(plain[0]) else plain[1]

    def _plain_target(self, verb: str) -> Op[Target]:
        plain = self._plain_target_at_hand()
        if plain is not None:
            return plain
        target = yield from self._target()
        yield from check_called(target, verb)
        check_function(target, verb)
        if self._known is not None:
            self._plain = self._known
        return target

    def _generator_target(self) -> Op[Target]:
        target = yield from self._target()
        yield from check_called(target, "remote_gen")
        check_generator(target)
        return target

    def _pool_target(self) -> Op[Target]:
        if self._binding is not None:
            raise InvalidError(
                "A method has no autoscaler settings of its own. Call it on the class instance instead."
            )
        return (yield from self._target())

    def _log_source(self) -> Op[LogSource]:
        target = yield from self._target()
        return LogSource(target.spec.app_id, target.pool)

    def _with(self, variant: Variant) -> Function[P, R, OriginalR]:
        if self._binding is not None:
            raise InvalidError(
                "A method runs in the pool of its instance. Use `with_options` and its like on the class."
            )
        variant.over({}).check_kind(is_generator=self.is_generator, is_web=self.is_web)
        return Function(
            self._source, self._name, raw_f=self._raw_f, local=self._local, variant=variant
        )


def _note_volumes(source: Source, name: str) -> None:
    """Warn that a function which mounts volumes finds nothing in them on the caller's machine."""
    entry = local_entry(source)
    if entry is not None and entry.options.volumes and is_local():
        warnings.warn(
            f"The {name} function is executing locally and will not have access to the mounted "
            "Volume data",
            UserWarning,
            stacklevel=3,
        )


def _rebuilt(
    source: Source, name: str, binding: Binding | None, variant: Variant
) -> Function[..., Any, Any]:
    return Function(source, name, binding=binding, variant=variant)
