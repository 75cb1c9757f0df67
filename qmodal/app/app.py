"""App: a namespace of functions and classes, and the unit that is run or deployed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    ParamSpec,
    Self,
    TypeVar,
    Unpack,
    dataclass_transform,
)

from qmodal.app import lookup as app_verbs
from qmodal.app.decorators import (
    ClsDecorator,
    FunctionDecorator,
    LocalEntrypoint as LocalEntrypoint,
)
from qmodal.app.registration import (
    AppDefaults,
    check_web_names,
    class_entry,
    function_entry,
    is_interactive,
    refuse_bare,
)
from qmodal.client.verb import Verb, verb
from qmodal.cls.cls import Cls
from qmodal.cls.partial_function import PartialFunction
from qmodal.exception import InvalidError
from qmodal.functions.definition import LocalSource
from qmodal.functions.function import Function
from qmodal.output.logs import LogVerbs
from qmodal.resources.image import Image
from qmodal.spec.keywords.typed import OptionKeywords
from qmodal.spec.parameters import parameter
from qmodal.spec.registry import Registry
from qmodal.spec.web import full_name, web_methods
from qmodal.transport.operation import Op

if TYPE_CHECKING:
    from qmodal.runner.run import RunContext

P = ParamSpec("P")
R = TypeVar("R")
OriginalR = TypeVar("OriginalR")
C = TypeVar("C")


def _lookup(
    name: str,
    *,
    client: Any = None,
    environment_name: str | None = None,
    create_if_missing: bool = False,
) -> Op[App]:
    """The deployed app of that name, or the app of that id; looks at once. Raises NotFoundError.

    >>> App.lookup("reports", create_if_missing=True)
    """
    return app_verbs.lookup(App, name, environment_name, create=create_if_missing)


class App:
    """Functions and classes that are run or deployed together.

    >>> app = qmodal.App("reports")
    >>> @app.function()
    ... def square(x: int) -> int:
    ...     return x * x
    """

    lookup: ClassVar = Verb(_lookup)

    def __init__(
        self,
        name: str | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        image: Any = None,
        secrets: Any = (),
        volumes: Mapping[Any, Any] | None = None,
        include_source: bool = True,
    ) -> None:
        if name is not None and not isinstance(name, str):
            raise InvalidError(f"The name of an App must be a str, not {type(name).__name__}.")
        self._defaults = AppDefaults(image, secrets, volumes)
        self._registry = Registry(self, name, app_verbs.checked_tags(tags or {}))
        self._functions: dict[str, Function[..., Any, Any]] = {}
        self._classes: dict[str, Cls[Any]] = {}
        self._entrypoints: dict[str, LocalEntrypoint] = {}

    @property
    def name(self) -> str | None:
        """The name it was made with, if any."""
        return self._registry.name

    @property
    def app_id(self) -> str | None:
        """`ap-...` while it runs or after it was deployed, else None."""
        return self._registry.app_id

    @property
    def description(self) -> str | None:
        """What lists call it."""
        return self._registry.description

    @property
    def image(self) -> Image | None:
        """The Image of functions and classes that name none; set, it is that of later ones."""
        return self._defaults.image

    @image.setter
    def image(self, image: Image | None) -> None:
        self._defaults.image = image

    @property
    def registered_functions(self) -> dict[str, Function[..., Any, Any]]:
        """The functions defined here, by name."""
        return self._registered(self._functions)

    @property
    def registered_classes(self) -> dict[str, Cls[Any]]:
        """The classes defined here, by name."""
        return self._registered(self._classes)

    @property
    def registered_entrypoints(self) -> dict[str, LocalEntrypoint]:
        """The local entrypoints defined here, by name."""
        return self._registered(self._entrypoints)

    def function(
        self,
        *bare: Any,
        name: str | None = None,
        schedule: Any = None,
        serialized: bool = False,
        is_generator: bool | None = None,
        **options: Unpack[OptionKeywords],
    ) -> FunctionDecorator:
        """Register a function: it runs in a pool of its own.

        Raises InvalidError for options that make no sense, DeprecationError for renamed ones.
        """
        refuse_bare("function", bare)
        given = {**options, "schedule": schedule, "serialized": serialized}
        checked = self._defaults.options(given)

        def register(target: Any) -> Function[..., Any, Any]:
            entry = function_entry(target, checked, name=name, is_generator=is_generator)
            check_web_names(self._registry, entry)
            function: Function[..., Any, Any] = Function(
                LocalSource(self._registry, entry.tag), entry.tag, raw_f=entry.raw
            )
            self._registry.register(entry, may_replace=is_interactive(entry.raw))
            self._functions[entry.tag] = function
            return function

        return FunctionDecorator(register)

    @dataclass_transform(field_specifiers=(parameter,), kw_only_default=True)
    def cls(
        self, *bare: Any, serialized: bool = False, **options: Unpack[OptionKeywords]
    ) -> ClsDecorator:
        """Register a class: every set of its parameters has a pool of its own.

        Raises InvalidError for options or a class that make no sense.
        """
        refuse_bare("cls", bare)
        checked = self._defaults.options({**options, "serialized": serialized})

        def register(target: Any) -> Cls[Any]:
            entry = class_entry(target, checked)
            check_web_names(self._registry, entry)
            cls: Cls[Any] = Cls(
                LocalSource(self._registry, entry.tag),
                entry.tag.removesuffix(".*"),
                user_cls=entry.raw,
            )
            self._registry.register(entry, may_replace=is_interactive(entry.raw))
            self._classes[entry.tag.removesuffix(".*")] = cls
            return cls

        return ClsDecorator(register)

    def local_entrypoint(
        self, *bare: Any, name: str | None = None
    ) -> Callable[[Callable[..., Any]], LocalEntrypoint]:
        """Register the function that `qmodal run` starts with; it runs on the caller's machine."""
        refuse_bare("local_entrypoint", bare)

        def register(function: Any) -> LocalEntrypoint:
            if not callable(function) or isinstance(function, Function | Cls | PartialFunction):
                raise InvalidError("`@app.local_entrypoint()` belongs on a plain function.")
            tag = name or function.__qualname__
            if tag in self._entrypoints:
                raise InvalidError(f"Duplicate local entrypoint name: {tag}.")
            entrypoint = self._entrypoints[tag] = LocalEntrypoint(function, self, tag)
            return entrypoint

        return register

    def run(
        self,
        *,
        name: str | None = None,
        client: Any = None,
        detach: bool = False,
        interactive: bool = False,
        environment_name: str | None = None,
    ) -> RunContext[Self]:
        """Run the app for the length of a `with` (or `async with`) block.

        Uses the Redis of the settings, else a running `qmodal up`, else a private server that
        ends with the block. Raises InvalidError if it runs already.

        >>> with app.run():
        ...     print(square.remote(3))
        """
        from qmodal.runner.run import RunContext

        return RunContext(
            self,
            name=name,
            detach=detach,
            environment=environment_name,
            interactive=interactive,
        )

    @verb
    def deploy(
        self,
        name: str | None = None,
        *,
        environment_name: str | None = None,
        tag: str = "",
        client: Any = None,
        strategy: str = "rolling",
    ) -> Op[App]:
        """Publish the app under its name, until it is stopped; returns itself.

        >>> app.deploy(name="reports")
        """
        from qmodal.runner.deploy import deploy

        yield from deploy(self, name, environment_name, tag=tag, strategy=strategy)
        return self

    @verb
    def stop(self, *, client: Any = None) -> Op[None]:
        """End the app for everybody; this cannot be undone. Raises InvalidError if it never began."""
        return app_verbs.stop(self._registry)

    @verb
    def set_tags(self, tags: Mapping[str, str], *, client: Any = None) -> Op[None]:
        """Replace the tags of the running or deployed app: `set_tags({"team": "a"})`."""
        return app_verbs.set_tags(self._registry, tags)

    @verb
    def get_tags(self, *, client: Any = None) -> Op[dict[str, str]]:
        """The tags of the running or deployed app."""
        return app_verbs.get_tags(self._registry)

    @property
    def logs(self) -> LogVerbs:
        """What its containers printed: `fetch(since=...)`, `tail(100)`, `stream(timeout)`."""
        return LogVerbs(partial(app_verbs.log_source, self._registry))

    def include(self, other_app: App, inherit_tags: bool = True) -> Self:
        """Take in the functions and classes of another app, not its entrypoints; returns itself."""
        self._registry.include(other_app._registry, may_replace=is_interactive)
        self._functions.update(other_app._functions)
        self._classes.update(other_app._classes)
        if inherit_tags:
            self._registry.tags = {**other_app._registry.tags, **self._registry.tags}
        return self

    @property
    def registered_web_endpoints(self) -> list[str]:
        """The names of the web functions defined here: `f`, or `Cls.method`."""
        return self._registered(
            [
                full_name(tag, method)
                for tag, entry in self._registry.entries.items()
                for method in web_methods(entry.options)
            ]
        )

    def _registered(self, registered: C) -> C:
        if not self._registry.is_known_here:
            raise AttributeError(f"{self.name!r} was looked up; its definitions are not here")
        return registered
