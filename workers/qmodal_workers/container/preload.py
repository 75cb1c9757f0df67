"""Imports the modules of an app version, and finds the user's function or class in them."""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from qmodal.client import context
from qmodal.client.client import is_plain_only
from qmodal.cls.cls import Cls
from qmodal.exception import ExecutionError
from qmodal.functions.definition import OwnSource, serve
from qmodal.source.unpacked_code import check_unchanged
from qmodal.spec.documents import FunctionSpec, PoolSpec, Version
from qmodal.spec.options import FunctionOptions


def load_version(version: Version, code: str | None) -> None:
    """Import the modules of all functions of the version; raises whatever they raise."""
    if code is not None and code not in sys.path:
        check_unchanged(Path(code))
        # Before everything that is installed on the box; qmodal itself is imported already.
        sys.path.insert(0, code)
        importlib.invalidate_caches()
    with context.importing(for_container=True):
        for spec in version.functions.values():
            if spec.serialized is None:
                importlib.import_module(spec.module)
            _load_web(spec)
    if version.main is not None and version.main in sys.modules:
        # Pickles made in a program run as `python app.py` speak of `__main__`.
        sys.modules["__main__"] = sys.modules[version.main]


def _load_web(spec: FunctionSpec) -> None:
    """Import what its web functions need: to import FastAPI takes half a second, which containers share so."""
    options = FunctionOptions.from_plain(spec.options)
    if options.recorded.get("web"):
        from qmodal.spec.web import web_methods
        from qmodal_workers.container.web.apps.needed import preload

        preload(web.kind for web in web_methods(options).values())


def find(version: Version, pool: PoolSpec) -> tuple[FunctionSpec, PoolSpec, Any]:
    """The function's spec, the pool, and the decorated object (a Function or a Cls) that the pool serves.

    Raises ExecutionError if the version or its code has none.
    """
    spec = version.functions.get(pool.function)
    if spec is None:
        raise ExecutionError(
            f"version {version.number} of {version.name!r} has no {pool.function!r}; deploy again"
        )
    if spec.serialized is not None:
        if is_plain_only():
            raise ExecutionError(
                f"{spec.tag!r} was published as a pickle (`serialized=True`), which QMODAL_PAYLOADS=plain "
                "does not open; define it in a file."
            )
        import cloudpickle

        serve(version, is_pinned=pool.number > 0)
        loaded: Any = cloudpickle.loads(spec.serialized)
        if spec.is_class:
            loaded = Cls(OwnSource(spec.tag), spec.tag.removesuffix(".*"), user_cls=loaded)
        return spec, pool, loaded
    for other in version.functions.values():
        if other.serialized is None and other is not spec:
            with suppress(ExecutionError):
                _attach(_resolved(other), version, is_pinned=pool.number > 0)
    found = _resolved(spec)
    _check_imports(found, spec.tag)
    _attach(found, version, is_pinned=pool.number > 0)
    return spec, pool, found


def _resolved(spec: FunctionSpec) -> Any:
    found: Any = sys.modules[spec.module]
    for part in spec.qualname.split("."):
        found = _attribute(found, part, spec)
    return found


def _attribute(owner: ModuleType | Any, name: str, spec: FunctionSpec) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError:
        raise ExecutionError(
            f"module {spec.module!r} has no {spec.qualname!r} in the container; is it defined under "
            "a condition that only holds on the caller's machine?"
        ) from None


def _check_imports(found: Any, tag: str) -> None:
    """Raise ImportError for a function whose image has something missing here."""
    app = getattr(found, "_app", None)
    entry = None if app is None else app._registry.entries.get(tag)
    image = None if entry is None else entry.options.image
    if image is not None:
        image.check_imports()


def _attach(found: Any, version: Version, *, is_pinned: bool) -> None:
    """Make the calls of user code to its own app go to this very app, and to this version if pinned."""
    app = getattr(found, "_app", None)
    if app is not None:
        app._registry.attach(version, is_pinned=is_pinned)
