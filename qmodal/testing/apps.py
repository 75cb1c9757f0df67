"""The apps of this process as eager mode finds them: nothing is published, each function stands for itself."""

from __future__ import annotations

from typing import Any

from qmodal.exception import NotFoundError
from qmodal.functions.definition import publishing
from qmodal.spec.documents import FunctionSpec
from qmodal.spec.registry import Definition, Entry, Registry, registries
from qmodal.wire.ids import new_app_id
from qmodal.wire.signing import Signer


class EagerApps:
    """What handles stand for in eager mode: definitions that are made when they are asked for first."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._ids: dict[Registry, str] = {}
        self._known: dict[tuple[str, str], tuple[Entry, Definition]] = {}

    def of(self, registry: Registry, tag: str) -> Definition:
        """The definition of a function or class of an app; that of now, if it was defined again."""
        if registry not in self._ids:
            self._ids[registry] = new_app_id()
        app_id, entry = self._ids[registry], registry.entries[tag]
        entry_then, definition = self._known.get((app_id, tag), (None, None))
        if definition is None or entry_then is not entry:
            app_name = registry.name or ""
            with publishing(registry):  # so that functions that are pickled may name each other
                spec = entry.spec(module=entry.raw.__module__, signer=self._signer, app=app_name)
            definition = Definition(
                app_id=app_id, app_name=app_name, spec=spec, main_by_reference=True
            )
            self._known[app_id, tag] = entry, definition
        return definition

    def named(self, app_name: str, name: str, *, is_class: bool) -> Definition:
        """The definition that an app of that name has here; the newest app, if there are several.

        Raises NotFoundError.
        """
        tag = f"{name}.*" if is_class else name
        for registry in reversed(registries()):
            if app_name in (registry.name, self._ids.get(registry)) and tag in registry.entries:
                return self.of(registry, tag)
        raise NotFoundError(
            f"Eager mode finds no {name!r} of an app {app_name!r} in this process: import the module that "
            "defines it, or use the fixture `qmodal_stack`."
        )

    def instead_of(self, found: Definition) -> Definition:
        """What stands here for a definition that was looked up on a server before; raises as `named`."""
        if (found.app_id, found.spec.tag) in self._known:
            return found
        tag = found.spec.tag
        return self.named(found.app_name, tag.removesuffix(".*"), is_class=tag.endswith(".*"))

    def code(self, app_id: str, tag: str) -> tuple[FunctionSpec, Any]:
        """The spec and the Python function of a definition that was given out; of a class its Cls, if it has one."""
        entry, definition = self._known[app_id, tag]
        (registry,) = (each for each, known in self._ids.items() if known == app_id)
        named = registry.owner.registered_classes.get(tag.removesuffix(".*"))
        is_it = entry.is_class and getattr(named, "_user_cls", None) is entry.raw
        return definition.spec, named if is_it else entry.raw
