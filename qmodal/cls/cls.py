"""Cls: a class whose instances each have a pool of containers, one for each set of parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack

from qmodal.client import deprecation as legacy
from qmodal.client.client import is_plain_only
from qmodal.client.signatures import names_of
from qmodal.client.verb import verb
from qmodal.cls import handles
from qmodal.cls.local_instance import LocalInstance, has_constructor
from qmodal.cls.partial_function import methods_of
from qmodal.exception import InvalidError, NotFoundError
from qmodal.functions import autoscaler as pool_verbs
from qmodal.functions.definition import NamedSource, Source, app_of, portable
from qmodal.functions.function import Function
from qmodal.functions.target import Binding, Target
from qmodal.spec import parameters
from qmodal.spec.keywords.typed import VariantOptions
from qmodal.spec.parameters import ParameterSpec
from qmodal.spec.variant import Variant
from qmodal.transport.operation import Op
from qmodal.wire.foreign import ForeignError, touch, type_name

if TYPE_CHECKING:
    from qmodal.types import FunctionAutoscalerSettings, FunctionCurrentStats

T = TypeVar("T")


class Cls(Generic[T]):
    """A class that runs elsewhere; made by `@app.cls()` or found with `from_name`.

    >>> Model = Cls.from_name("serving", "Model")
    >>> Model(size=3).generate.remote("hello")
    """

    def __init__(
        self,
        source: Source,
        name: str,
        *,
        user_cls: type[T] | None = None,
        variant: Variant | None = None,
    ) -> None:
        self._source = source
        self._name = name
        self._user_cls = user_cls
        self._variant = variant or Variant()
        self._parameters: tuple[ParameterSpec, ...] | None = None
        self._methods: dict[str, Callable[..., Any]] = {}
        self._web: tuple[str, ...] = ()
        if user_cls is not None:
            marked = methods_of(user_cls)
            self._methods = {name: each.raw_f for name, each in marked.items()}
            self._web = tuple(name for name, each in marked.items() if each.web)
            vars(self).update(names_of(user_cls))
            if not has_constructor(user_cls):
                self._parameters = parameters.parameters_of(user_cls)

    def __repr__(self) -> str:
        return f"Cls({self._name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt_cls, (portable(self._source), self._name, self._variant)

    @classmethod
    def from_name(
        cls,
        app_name: str,
        name: str,
        *,
        version: int | None = None,
        environment_name: str | None = None,
        client: Any = None,
    ) -> Cls[Any]:
        """The class of a deployed app, looked up on first use.

        >>> Cls.from_name("serving", "Model")(size=3).generate.remote("hello")
        """
        source = NamedSource(app_name, name, environment_name, is_class=True, number=version)
        return Cls(source, name)

    @classmethod
    def lookup(
        cls, app_name: str, name: str, *, environment_name: str | None = None, client: Any = None
    ) -> Cls[Any]:
        """As `from_name`, looked up at once; the old spelling. Raises NotFoundError."""
        legacy.warn("Cls.lookup", "use Cls.from_name(...), which looks up on first use")
        found = cls.from_name(app_name, name, environment_name=environment_name)
        return found.hydrate()

    def with_options(self, **options: Unpack[VariantOptions]) -> Cls[T]:
        """The same class, whose instances have pools of their own with these options.

        >>> Large = Model.with_options(memory=32768, max_containers=1)
        """
        return self._with(self._variant.with_options(**options))

    def with_concurrency(self, *, max_inputs: int, target_inputs: int | None = None) -> Cls[T]:
        """The same class with pools of its own, for several inputs at once in a container.

        >>> Busy = Model.with_concurrency(max_inputs=20)
        """
        return self._with(self._variant.with_concurrency(max_inputs, target_inputs))

    def with_batching(self, *, max_batch_size: int, wait_ms: int) -> Cls[T]:
        """The same class with pools of its own, where its method takes lists.

        >>> Batched = Model.with_batching(max_batch_size=32, wait_ms=20)
        """
        return self._with(self._variant.with_batching(max_batch_size, wait_ms))

    def _with(self, variant: Variant) -> Cls[T]:
        return Cls(self._source, self._name, user_cls=self._user_cls, variant=variant)

    @verb
    def hydrate(self) -> Op[Cls[T]]:
        """Find out now, rather than on first use, what this handle stands for; returns itself."""
        yield from self._source.definition()
        return self

    def method_names(self) -> tuple[str, ...]:
        """The methods that calls can reach."""
        return tuple(name for name in self._methods if name not in self._web)

    def web_names(self) -> tuple[str, ...]:
        """The methods that are web functions."""
        return self._web

    @property
    def app(self) -> Any:
        """The app that it is defined on here."""
        return app_of(self._source, self._name)

    @property
    def _app(self) -> Any:
        # Containers ask whatever they find under the name that they serve.
        return getattr(self, "app", None)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Obj:
        """The handle of the instance with these parameters; its pool exists once it is called.

        Raises ValueError for an argument that cannot travel; its type is checked by the first call.
        """
        parameters.check_portable(args, kwargs, by_value=self._parameters is None)
        return Obj(self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") and self._user_cls is not None and name not in self._methods:
            return getattr(self._user_cls, name)
        if name.startswith("_") or hasattr(Cls, name):
            raise AttributeError(f"{self._name!r} has no {name!r}, as it is not defined here")
        # Which methods a class has that was looked up is not known before it is used.
        raise AttributeError(
            "You can't access methods on a Cls directly - Did you forget to instantiate the class "
            f"first?\nInstead of `{self._name}.{name}`, write `{self._name}(...).{name}`."
        )


class Obj:
    """An instance of a Cls: its methods as Functions that share the pool of its parameters.

    What is ours and not Modal's begins with an underscore, as any other name may be the user's.
    """

    def __init__(self, cls: Cls[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._cls = cls
        self._args = args
        self._kwargs = kwargs
        self._parameters: bytes | None = None
        self._functions: dict[str, Function[..., Any, Any]] = {}
        self._instance: LocalInstance | None = None

    def __repr__(self) -> str:
        return self._label()

    def __reduce__(self) -> tuple[Any, ...]:
        cls = self._cls
        return _rebuilt, (portable(cls._source), cls._name, self._args, self._kwargs, cls._variant)

    @verb
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
        """Change the limits of this instance's pool only; None leaves one as it is."""
        return pool_verbs.update_autoscaler(
            self._target,
            min_containers=min_containers,
            max_containers=max_containers,
            buffer_containers=buffer_containers,
            scaledown_window=scaledown_window,
            scaleup_softness=scaleup_softness,
            scaleup_window=scaleup_window,
        )

    @verb
    def get_current_stats(self) -> Op[FunctionCurrentStats]:
        """This instance's pool at this moment."""
        target = yield from self._target()
        return (yield from pool_verbs.current_stats(target))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        cls = self._cls
        if name in cls._methods or cls._user_cls is None:
            return self._method(name)
        return getattr(self._local().instance, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            setattr(self._local().instance, name, value)

    def _method(self, name: str) -> Function[..., Any, Any]:
        function = self._functions.get(name)
        if function is None:
            function = self._functions[name] = Function(
                self._cls._source,
                f"{self._cls._name}.{name}",
                local=self._local_method(name),
                binding=Binding(name, self),
                variant=self._cls._variant,
            )
        return function

    def _local_method(self, name: str) -> Callable[..., Any] | None:
        raw_f = self._cls._methods.get(name)
        if raw_f is None:
            return None

        @wraps(MethodType(raw_f, self))
        def local(*args: Any, **kwargs: Any) -> Any:
            here = self._local()
            result = here.method(name)(*args, **kwargs)
            handles.keep(self, here.instance, result)
            return result

        return local

    def _local(self) -> LocalInstance:
        if self._instance is None:
            user_cls = self._cls._user_cls
            if user_cls is None:
                raise NotFoundError(f"{self._cls._name!r} was looked up; only its methods are here")
            self._instance = LocalInstance.build(
                user_cls, self._cls._parameters, self._args, self._kwargs
            )
            handles.stand_for(self._instance.instance, self)
        return self._instance

    def _adopt(self, instance: Any, parameters: bytes) -> None:
        """Stand for an instance that a container has built: `self.other.remote()` works in it."""
        self._parameters = parameters
        self._instance = LocalInstance(instance, is_entered=True)
        handles.stand_for(instance, self)

    def _encoded(self, specs: tuple[ParameterSpec, ...] | None) -> bytes:
        """The parameters as the pool's identity: the same for equal values in any process."""
        if self._parameters is None:
            self._parameters = self._encode(specs)
        return self._parameters

    def _encode(self, specs: tuple[ParameterSpec, ...] | None) -> bytes:
        if specs is not None:
            bound = parameters.bind(specs, self._args, self._kwargs)
            return parameters.encode(bound) if bound else b""
        user_cls = self._cls._user_cls
        init = None if user_cls is None else inspect.getattr_static(user_cls, "__init__")
        return parameters.encode_legacy(
            self._args, self._kwargs, init=init, plain_only=is_plain_only()
        )

    def _label(self) -> str:
        shown = [_shown(value) for value in self._args]
        shown += [f"{name}={_shown(value)}" for name, value in self._kwargs.items()]
        text = ", ".join(shown)
        return f"{self._cls._name}({text if len(text) <= 200 else text[:197] + '...'})"

    def _target(self) -> Op[Target]:
        """Any method stands for the pool."""
        definition = yield from self._cls._source.definition()
        if not definition.spec.methods:
            raise InvalidError(
                f"{self._cls._name} has no method to call, so its instances have no containers: "
                "decorate one with `@modal.method()`."
            )
        name = next(iter(definition.spec.methods))
        return (yield from self._method(name)._target())


def _shown(value: object) -> str:
    try:
        return touch(repr, value)
    except ForeignError:
        return f"<{type_name(value)}>"


def _rebuilt_cls(source: Source, name: str, variant: Variant) -> Cls[Any]:
    return Cls(source, name, variant=variant)


def _rebuilt(
    source: Source, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], variant: Variant
) -> Obj:
    return Obj(_rebuilt_cls(source, name, variant), args, kwargs)
