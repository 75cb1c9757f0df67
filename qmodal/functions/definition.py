"""Sources: where the definition of a handle comes from, a local app or a deployed one found by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import KW_ONLY, dataclass
from typing import Any, Protocol

from qmodal.client.client import current
from qmodal.client.process import state
from qmodal.exception import ExecutionError, InvalidError, NotFoundError
from qmodal.spec.documents import FunctionSpec, Version
from qmodal.spec.names import is_app_id
from qmodal.spec.registry import Definition, Entry, Registry, definitions_of
from qmodal.store.apps import AppRecord
from qmodal.transport.operation import Op


class Source(Protocol):
    """Where the definition of a handle comes from."""

    def definition(self) -> Op[Definition]:
        """The definition; raises ExecutionError or NotFoundError if there is none."""
        ...

    def stands_for(self, definition: Definition) -> bool:
        """Whether `definition`, asked now, would give this one without asking a server."""
        ...


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A definition of an app in this process; there only while the app runs or after it was deployed."""

    registry: Registry
    tag: str

    def definition(self) -> Op[Definition]:
        """The definition, if the app has been published; published again if that is out of date."""
        if state.eager is not None:
            return state.eager.of(self.registry, self.tag)  # type: ignore[no-any-return]
        yield from self.registry.renewed()
        definition = self.registry.find_definition(self.tag)
        if definition is None:
            raise ExecutionError(_not_hydrated(self.registry, self.tag))
        return definition

    def stands_for(self, definition: Definition) -> bool:
        """Whether the app is still published as it was then."""
        return state.eager is None and self.registry.find_definition(self.tag) is definition


def _not_hydrated(registry: Registry, tag: str) -> str:
    app, name, is_class = registry.name, tag.removesuffix(".*"), tag.endswith(".*")
    kind = "Cls" if is_class else "Function"
    if registry.version is not None:
        return (
            f"{name} was defined after its App had been published, and is not a part of what runs: define it before "
            "`app.run()`, or deploy again."
        )
    text = (
        f"{name} has not been hydrated, because the App it is defined on is not running. Use `qmodal run`, "
        "`with app.run():` or `app.deploy()`."
    )
    return f"{text} Is it deployed? `{kind}.from_name({app!r}, {name!r})`" if app else text


def app_of(source: Source, name: str) -> Any:
    """The App in this process that a handle is of; raises AttributeError for one that was looked up."""
    if isinstance(source, LocalSource):
        return source.registry.owner
    raise AttributeError(f"{name!r} was looked up; its app is not defined here")


def local_entry(source: Source) -> Entry | None:
    """What an app in this process has registered; None for a definition from elsewhere."""
    return source.registry.entries.get(source.tag) if isinstance(source, LocalSource) else None


# The app whose serialized functions are being pickled.
_publishing: ContextVar[Registry | None] = ContextVar("qmodal_publishing", default=None)


@dataclass(frozen=True, slots=True)
class OwnSource:
    """A definition of the very version that this container serves.

    A serialized function that calls another one of its app is pickled before the app has an id.
    """

    tag: str

    def definition(self) -> Op[Definition]:
        """The definition; raises ExecutionError outside of such a container."""
        yield from ()
        try:
            return _served()[self.tag]
        except KeyError:
            raise ExecutionError(f"{self.tag!r} is not part of what runs here") from None

    def stands_for(self, definition: Definition) -> bool:
        """Whether the container serves that one."""
        return _served().get(self.tag) is definition


@contextmanager
def publishing(registry: Registry) -> Iterator[None]:
    """Meanwhile handles of that app are pickled as parts of the version to come."""
    token = _publishing.set(registry)
    try:
        yield
    finally:
        _publishing.reset(token)


def serve(version: Version, *, is_pinned: bool) -> None:
    """This container serves that version: what an OwnSource stands for from now on."""
    state.served.update(definitions_of(version, is_pinned=is_pinned))


def _served() -> dict[str, Definition]:
    return state.served


@dataclass(frozen=True, slots=True)
class FixedSource:
    """A definition that came along, with a handle from another process."""

    fixed: Definition

    def definition(self) -> Op[Definition]:
        """The definition."""
        yield from ()
        return self.fixed if state.eager is None else state.eager.instead_of(self.fixed)

    def stands_for(self, definition: Definition) -> bool:
        """Always: it came along. Not so in eager mode, which runs what is in this process."""
        return state.eager is None and definition is self.fixed


@dataclass(frozen=True, slots=True)
class NamedSource:
    """A definition of a deployed app, looked up by name on first use."""

    app_name: str
    name: str
    environment: str | None
    _: KW_ONLY
    is_class: bool
    number: int | None = None

    def stands_for(self, _definition: Definition) -> bool:
        """Never: it has to be looked up."""
        return False

    @property
    def _what(self) -> str:
        kind = "Cls" if self.is_class else "Function"
        return f"Lookup failed for {kind} '{self.name}' from the '{self.app_name}' app"

    def definition(self) -> Op[Definition]:
        """Look it up; raises NotFoundError."""
        if state.eager is not None:
            return state.eager.named(self.app_name, self.name, is_class=self.is_class)  # type: ignore[no-any-return]
        client = current()
        environment = self.environment or client.settings.environment
        app_id: str | None = self.app_name
        is_named = not is_app_id(self.app_name)
        if is_named:
            app_id = yield from client.apps.find(environment, self.app_name)
        if app_id is None:
            raise NotFoundError(
                f"{self._what}: App '{self.app_name}' not found in environment '{environment}'. "
                "Deploy it with `qmodal deploy`."
            )
        record = yield from client.apps.record(app_id)
        if is_named and record is not None:
            client.specs.check_title(record, environment, self.app_name)
        version = yield from self._version(record)
        return Definition(
            app_id=app_id,
            app_name=self.app_name,
            spec=self._spec(version),
            number=self.number or 0,
        )

    def _version(self, record: AppRecord | None) -> Op[Version]:
        found, number = None, self.number or (record.version if record else 0)
        if record is not None:
            found = yield from current().specs.of_record(record, number)
        if found is None:
            raise NotFoundError(f"{self._what}: it has no version {number}.")
        return found.value

    def _spec(self, version: Version) -> FunctionSpec:
        functions = version.functions
        spec = functions.get(f"{self.name}.*" if self.is_class else self.name)
        if spec is not None:
            return spec
        if not self.is_class and f"{self.name}.*" in functions:
            raise NotFoundError(
                f"{self._what}: '{self.name}' is a modal.Cls. Use `modal.Cls.from_name` instead."
            )
        names = ", ".join(sorted(name.removesuffix(".*") for name in functions)) or "nothing"
        raise NotFoundError(f"{self._what}: the app has {names}.")


def portable(source: Source) -> Source:
    """The source as it can travel to another process; raises InvalidError if it cannot yet."""
    if isinstance(source, OwnSource) and source.tag in _served():
        return FixedSource(_served()[source.tag])
    if not isinstance(source, LocalSource):
        return source
    if source.registry.is_part_of(_publishing.get()):
        return OwnSource(source.tag)
    if state.eager is not None:
        return FixedSource(state.eager.of(source.registry, source.tag))
    definition = source.registry.published_definition(source.tag)
    if definition is None:
        raise InvalidError(
            f"Can't serialize object {source.tag.removesuffix('.*')} which hasn't been hydrated: the "
            "App it is defined on is not running."
        )
    return FixedSource(definition)
