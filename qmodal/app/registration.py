"""Registration: a decorated function or class with its options, and the spec that will be published of it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from qmodal.client.client import is_plain_only
from qmodal.client.notebook import source_of
from qmodal.cls.local_instance import check_construction, has_constructor
from qmodal.cls.partial_function import (
    PartialFunction,
    hooks_of,
    is_async,
    is_generator,
    methods_of,
    note_legacy_hooks,
)
from qmodal.exception import Error, InvalidError, SerializationError
from qmodal.resources.image import Image
from qmodal.resources.schedule import check_schedule
from qmodal.resources.secret import Secret
from qmodal.source import typed
from qmodal.source.loader import is_typed
from qmodal.spec import parameters
from qmodal.spec.documents import FunctionSpec, MethodSpec
from qmodal.spec.keywords.checks import CHECKS
from qmodal.spec.options import FunctionOptions, validated_options
from qmodal.spec.registry import Entry, Registry
from qmodal.spec.web import check_distinct, full_name, web_methods
from qmodal.wire.foreign import describe
from qmodal.wire.signing import Signer

LARGEST_SERIALIZED = 16 * 1024 * 1024
LARGE_SERIALIZED = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """One function or class of an app under its tag (`f`, or `Cls.*`)."""

    tag: str
    raw: Any
    options: FunctionOptions
    methods: dict[str, MethodSpec]

    @property
    def is_class(self) -> bool:
        """Whether it is a class."""
        return isinstance(self.raw, type)

    def spec(self, *, module: str, signer: Signer, app: str) -> FunctionSpec:
        """The spec to publish in an app of that name, the values of its secrets sealed with the signer's key.

        Raises SerializationError for what cannot be serialized, InvalidError for a schedule or a
        secret that cannot work.
        """
        if self.options.schedule is not None:
            self.options.schedule.check()
        return FunctionSpec(
            tag=self.tag,
            module=module,
            qualname=self.raw.__qualname__,
            is_class=self.is_class,
            methods=self.methods,
            options=self.options.published(signer, app).to_plain(),
            parameters=self._parameters(),
            serialized=_serialized(self.raw) if self.options.serialized else None,
        )

    def _parameters(self) -> tuple[tuple[str, str, bool, Any], ...] | None:
        if not self.is_class:
            return ()
        if has_constructor(self.raw):
            return None
        specs = parameters.parameters_of(self.raw)
        return tuple((spec.name, spec.kind, spec.required, spec.default) for spec in specs)


class AppDefaults:
    """The image, secrets and volumes given to an App; raises InvalidError for other objects."""

    __slots__ = ("_image", "_secrets", "_volumes")

    def __init__(self, image: Any, secrets: Any, volumes: Any) -> None:
        if not isinstance(secrets, list | tuple) or not all(isinstance(s, Secret) for s in secrets):
            raise InvalidError("`secrets` of an App must be a list of Secret objects.")
        self.image = image
        self._secrets = tuple(secrets)
        self._volumes: Mapping[str, Any] = CHECKS["volumes"]("volumes", volumes)

    @property
    def image(self) -> Image | None:
        """The image, if any."""
        return self._image

    @image.setter
    def image(self, image: Any) -> None:
        if image is not None and not isinstance(image, Image):
            raise InvalidError(f"image has to be a modal Image, not {type(image)}.")
        self._image: Image | None = image

    def options(self, given: Mapping[str, Any]) -> FunctionOptions:
        """The options of a decorator's keywords, over the defaults; raises as `validated_options`."""
        # None means "not given" for all but `timeout`, which nothing can be without.
        options = {k: value for k, value in given.items() if value is not None or k == "timeout"}
        options.setdefault("image", self._image)
        own = {name: CHECKS[name](name, given.get(name)) for name in ("secrets", "volumes")}
        options["secrets"] = [*self._secrets, *own["secrets"]]
        options["volumes"] = {**self._volumes, **own["volumes"]}
        return validated_options(**options)


def check_web_names(registry: Registry, entry: Registered) -> None:
    """Raise InvalidError if a web function has a label or domain that one of another entry has."""
    if not web_methods(entry.options):
        return
    entries: dict[str, Entry] = {**registry.entries, entry.tag: entry}
    check_distinct(
        (full_name(tag, method), web)
        for tag, each in entries.items()
        for method, web in web_methods(each.options).items()
    )


def refuse_bare(decorator: str, bare: tuple[Any, ...]) -> None:
    """Raise TypeError for `@app.function` without its parentheses."""
    if bare:
        raise TypeError(
            f"@app.{decorator} needs parentheses and takes keywords only: `@app.{decorator}(...)`."
        )


def function_entry(
    target: Any, options: FunctionOptions, *, name: str | None, is_generator: bool | None
) -> Registered:
    """A function as `@app.function` registers it; raises InvalidError or TypeError."""
    raw, options = _unmarked(target, options)
    if isinstance(raw, type):
        raise TypeError("`@app.function` belongs on a function; for a class use `@app.cls()`.")
    if not inspect.isroutine(raw):
        raise TypeError(f"`@app.function` belongs on a function, not on a {type(raw).__name__}.")
    options = _in_place(raw, options)
    _check_serialized(raw, options)
    method = _method_spec(raw, is_generator)
    is_web = isinstance(target, PartialFunction) and bool(target.web)
    options.check_kind(is_generator=method.is_generator, is_web=is_web)
    check_schedule(options.schedule, raw)
    return Registered(tag=name or raw.__qualname__, raw=raw, options=options, methods={"": method})


def class_entry(target: Any, options: FunctionOptions) -> Registered:
    """A class as `@app.cls` registers it; raises InvalidError or TypeError."""
    raw, options = _unmarked(target, options)
    if not isinstance(raw, type):
        raise TypeError("`@app.cls` belongs on a class; for a function use `@app.function()`.")
    if is_interactive(raw):
        options = replace(options, serialized=True)
    _check_serialized(raw, options)
    methods = methods_of(raw)
    web = {name: dict(partial.web) for name, partial in methods.items() if partial.web}
    _check_class(raw, options, web)
    specs = {
        name: MethodSpec(is_generator=partial.is_generator, is_async=partial.is_async)
        for name, partial in methods.items()
    }
    for name, spec in specs.items():
        options.check_kind(is_generator=spec.is_generator, is_web=bool(methods[name].web))
    for partial in methods.values():  # one, which has the containers for itself
        if partial.max_batch_size is not None:
            options = options.with_batching(partial.max_batch_size, partial.wait_ms)
    if web:
        options = options.with_recorded(web=web)
    note_legacy_hooks(raw)
    return Registered(tag=f"{raw.__name__}.*", raw=raw, options=options, methods=specs)


def _check_class(raw: type, options: FunctionOptions, web: Mapping[str, Any]) -> None:
    check_construction(raw)
    if web and has_constructor(raw):
        raise InvalidError(
            f"{raw.__name__} has web functions ({', '.join(web)}), so it cannot have an `__init__`: its parameters come "
            "from the query of a request. Declare them: `name: str = modal.parameter()`, and use `@modal.enter()`."
        )
    if options.schedule is not None:
        raise InvalidError("A class cannot have a schedule; put it on a function that calls it.")
    if hooks_of(raw, "snap_enter") and not options.enable_memory_snapshot:
        raise InvalidError(
            f"{raw.__name__} has `@enter(snap=True)` methods, which need "
            "`@app.cls(enable_memory_snapshot=True)`."
        )


def _unmarked(target: Any, options: FunctionOptions) -> tuple[Any, FunctionOptions]:
    """The function or class below other decorators, and what those say about it."""
    if not isinstance(target, PartialFunction):
        return target, options
    if target.kind == "method":
        raise InvalidError(
            "`@app.function` cannot be used on a method; use `@app.cls()` on the class and "
            "`@qmodal.method()` on the method."
        )
    if target.max_inputs is not None:
        options = options.with_concurrency(target.max_inputs, target.target_inputs)
    if target.max_batch_size is not None:
        options = options.with_batching(target.max_batch_size, target.wait_ms)
    if target.web:
        options = options.with_recorded(web={"": dict(target.web)})
    return target.raw_f, options.with_recorded(**target.recorded)


def is_interactive(raw: Any) -> bool:
    """Whether it was typed into a notebook or an interpreter: no container could import it."""
    return raw.__module__ == "__main__" and is_typed()


def _check_serialized(raw: Callable[..., Any], options: FunctionOptions) -> None:
    """Raise InvalidError for code that would travel as a pickle where none may."""
    if options.serialized and is_plain_only():
        raise InvalidError(
            f"QMODAL_PAYLOADS=plain allows no pickles, and {raw.__qualname__} would be sent as one: leave out `serialized=True`, "
            "and define it in a module."
        )


def _in_place(raw: Callable[..., Any], options: FunctionOptions) -> FunctionOptions:
    """The options for a function where it is defined; raises InvalidError if it cannot be there."""
    if is_interactive(raw):
        options = replace(options, serialized=True)
    if "<locals>" in raw.__qualname__ and not options.serialized:
        raise InvalidError(
            f"The function {raw.__qualname__} is defined inside another one, where containers cannot "
            "find it; move it to the top of its module, or use `serialized=True`."
        )
    parameters = list(inspect.signature(raw).parameters)
    if parameters[:1] == ["self"] and "." in raw.__qualname__.rpartition("<locals>.")[2]:
        raise InvalidError(
            f"{raw.__qualname__} looks like a method; use `@app.cls()` on the class and "
            "`@qmodal.method()` on the method."
        )
    return options


def _method_spec(raw: Callable[..., Any], declared: bool | None) -> MethodSpec:
    generator = is_generator(raw) if declared is None else declared
    return MethodSpec(is_generator=generator, is_async=is_async(raw))


def _serialized(raw: Any) -> bytes:
    import cloudpickle

    try:
        serialized = typed.dump(raw, source_of) if is_interactive(raw) else cloudpickle.dumps(raw)
    except Error:
        raise  # it names what it is about, such as a handle that stands for nothing
    except Exception as error:
        raise SerializationError(
            f"{raw.__qualname__} cannot be serialized: {describe(error)}. It refers to something that cannot be sent to "
            "another process, such as a lock, a file or a connection: make that inside the function."
        ) from error
    if len(serialized) > LARGEST_SERIALIZED:
        raise SerializationError(
            f"{raw.__qualname__} takes {len(serialized)} bytes when serialized, above the limit of "
            "16 MiB; it probably refers to large global objects. Load them inside."
        )
    if len(serialized) > LARGE_SERIALIZED:
        warnings.warn(
            f"{raw.__qualname__} takes {len(serialized)} bytes when serialized, which each of its "
            "containers loads; does it refer to large global objects?",
            UserWarning,
            stacklevel=2,
        )
    return serialized
