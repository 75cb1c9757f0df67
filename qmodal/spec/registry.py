"""Registry: what one app declares, and what it is published as: all that other rooms know of an App."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

from qmodal.spec.documents import FunctionSpec, MethodSpec, Version
from qmodal.spec.options import FunctionOptions
from qmodal.transport.operation import Op
from qmodal.wire.signing import Signer

log = logging.getLogger("qmodal")
# All that there are in this process, in the order in which they were made: a table for tests of eager mode.
_made: weakref.WeakValueDictionary[int, Registry] = weakref.WeakValueDictionary()
_numbers = count()
NOT_PUBLISHED = (
    "%s was defined after %r had been deployed, and is not a part of it before it is deployed again"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One function or class of one published app."""

    app_id: str
    app_name: str
    spec: FunctionSpec
    main_by_reference: bool = False
    number: int = 0  # the version that calls are pinned to; 0: whichever is current


class Entry(Protocol):
    """One declared function or class: the Python object, its options, and its spec to publish."""

    @property
    def tag(self) -> str:
        """`f` for a function, `Cls.*` for a class."""
        ...

    @property
    def raw(self) -> Any:
        """The Python function or class."""
        ...

    @property
    def options(self) -> FunctionOptions:
        """What its decorators said."""
        ...

    @property
    def is_class(self) -> bool:
        """Whether it is a class."""
        ...

    @property
    def methods(self) -> Mapping[str, MethodSpec]:
        """What calls can reach; a function is the method ""."""
        ...

    def spec(self, *, module: str, signer: Signer, app: str) -> FunctionSpec:
        """The spec to publish in an app of that name; raises InvalidError or SerializationError."""
        ...


class AppLike(Protocol):
    """An App, for rooms that may not import it."""

    @property
    def name(self) -> str | None:
        """The name it was made with, if any."""
        ...

    @property
    def _registry(self) -> Registry: ...


class Registry:
    """Declared functions and classes by tag, and the published version that their handles stand for.

    `owner` is the App that it belongs to; nothing in here looks into it.
    """

    def __init__(self, owner: Any, name: str | None, tags: Mapping[str, str]) -> None:
        self.owner = owner
        self.name = name
        self.tags = dict(tags)
        self.description = name
        self.is_known_here = True  # False: it was looked up, its definitions are elsewhere
        self.entries: dict[str, Entry] = {}
        self.version: Version | None = None
        # Publishes the app again if it has changed; None unless it runs and was typed in.
        self.renew: Callable[[], Op[None]] | None = None
        self._definitions: dict[str, Definition] = {}
        # Those that handles may use without a look at what has changed: the same, or none.
        self._in_force: dict[str, Definition] = {}
        self._includes: list[Registry] = []
        self._published_by: list[Registry] = []
        _made[next(_numbers)] = self

    @property
    def app_id(self) -> str | None:
        """`ap-...` while the app runs or after it was deployed, else None."""
        return None if self.version is None else self.version.app_id

    def register(self, entry: Entry, *, may_replace: bool = False) -> None:
        """Add a function or class; the last one of a tag counts, and a warning says so."""
        if entry.tag in self.entries and not may_replace:
            kind = "class" if entry.is_class else "function"
            log.warning("%s name '%s' collision!", kind, entry.tag.removesuffix(".*"))
        self.entries[entry.tag] = entry
        self.outdate()
        if may_replace and self.version is not None and self.renew is None:
            log.warning(NOT_PUBLISHED, entry.tag.removesuffix(".*"), self.version.name)

    def outdate(self) -> None:
        """The app may have changed: before the next call it is published again, if it can be."""
        if self.renew is not None:
            self._in_force = {}

    def renewed(self) -> Op[None]:
        """Publish again what may have changed, of this app and of those that include it."""
        for each in [self, *self._published_by]:
            if each.renew is not None and not each._in_force:
                yield from each.renew()

    def include(self, other: Registry, may_replace: Callable[[Any], bool]) -> None:
        """Take in the entries of another one, whose handles stand for what is published here."""
        for entry in other.entries.values():
            self.register(entry, may_replace=may_replace(entry.raw))
        self._includes.append(other)

    @property
    def included(self) -> set[Registry]:
        """Those that it includes, and those that they include."""
        found: set[Registry] = set()
        following = [*self._includes]
        while following:
            each = following.pop()
            if each not in found:
                found.add(each)
                following += each._includes
        return found

    def is_part_of(self, other: Registry | None) -> bool:
        """Whether `other` is this registry, or one that includes it."""
        return other is not None and (other is self or self in other.included)

    def attach(
        self,
        version: Version | None,
        *,
        main_by_reference: bool = False,
        is_pinned: bool = False,
    ) -> None:
        """The handles of the app stand for that published version from now on (None: nothing)."""
        self.version = version
        self._definitions = definitions_of(
            version, main_by_reference=main_by_reference, is_pinned=is_pinned
        )
        self.confirm()
        self._note_publisher()

    def confirm(self) -> None:
        """Nothing has changed since it was published."""
        self._in_force = self._definitions

    def _note_publisher(self) -> None:
        """What it includes finds its functions with it for as long as it is published.

        They keep it no longer than that: a module's app may be included by many, one after another.
        """
        for each in self.included:
            each._published_by = [other for other in each._published_by if other is not self]
            if self.version is not None:
                each._published_by.append(self)

    def find_definition(self, tag: str) -> Definition | None:
        """As published with this app, or with one that has included it; None if there may be a newer one."""
        found = self._in_force.get(tag)  # nearly always; asked for with each call
        for publisher in self._published_by if found is None else ():
            if tag in publisher._in_force:
                return publisher._in_force[tag]
        return found

    def published_definition(self, tag: str) -> Definition | None:
        """As it was published last, whatever has changed since."""
        for publisher in (self, *self._published_by):
            if tag in publisher._definitions:
                return publisher._definitions[tag]
        return None


def registries() -> list[Registry]:
    """Those of all apps in this process that something refers to, in the order in which they were made."""
    return [each for _, each in sorted(_made.items())]


def definitions_of(
    version: Version | None, *, main_by_reference: bool = False, is_pinned: bool = False
) -> dict[str, Definition]:
    """What the handles of a published app stand for, by tag."""
    if version is None:
        return {}
    return {
        tag: Definition(
            app_id=version.app_id,
            app_name=version.name,
            spec=spec,
            main_by_reference=main_by_reference,
            number=(spec.since or version.number) if is_pinned else 0,
        )
        for tag, spec in version.functions.items()
    }
