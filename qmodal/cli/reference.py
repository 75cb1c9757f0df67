"""Which object a command line means: `path/file.py[::object]` or `-m pkg.module[::object]`."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from types import ModuleType
from typing import Literal, Protocol, cast

import click

from qmodal.cli.echo import echo
from qmodal.client import context
from qmodal.cls.partial_function import PartialFunction
from qmodal.exception import InvalidError
from qmodal.source.loader import load_file, load_module

Kind = Literal["entrypoint", "function", "method"]


class ClsLike(Protocol):
    """A registered class."""

    def method_names(self) -> tuple[str, ...]: ...
    def web_names(self) -> tuple[str, ...]: ...


class AppShape(Protocol):
    """An app with local definitions: what it registered, by tag."""

    @property
    def registered_entrypoints(self) -> Mapping[str, object]: ...
    @property
    def registered_functions(self) -> Mapping[str, object]: ...
    @property
    def registered_classes(self) -> Mapping[str, ClsLike]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What the user wrote: one of `path` and `module` is set; `object_path` may be empty."""

    path: Path | None = None
    module: str | None = None
    object_path: str = ""

    @property
    def text(self) -> str:
        return str(self.path) if self.path is not None else f"-m {self.module}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runnable:
    """The object to run; `object` is the class of a method, whose own name is `method`."""

    kind: Kind
    app: AppShape
    name: str
    object: object
    method: str = ""


class _Rank(IntEnum):
    MODULE_ENTRYPOINT = 0
    MODULE_FUNCTION = 1
    APP_ENTRYPOINT = 2
    APP_FUNCTION = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    runnable: Runnable
    spellings: tuple[str, ...]
    rank: _Rank

    def is_meant_by(self, path: str) -> bool:
        return not path or any(f"{name}.".startswith(f"{path}.") for name in self.spellings)


def parse_reference(text: str, *, as_module: bool) -> Reference:
    """Read a reference; raises InvalidError with the likely correction."""
    place, _, object_path = text.partition("::")
    if ":" in place or ":" in object_path:
        raise InvalidError(f"`{text}` is no reference. Did you mean '::' instead of ':'?")
    if as_module:
        if place.endswith(".py") or "/" in place:
            raise InvalidError(f"`{place}` is a file, and -m takes a module; leave out the -m.")
        return Reference(module=place, object_path=object_path)
    if not place.endswith(".py"):
        raise InvalidError(_no_file(place, text))
    return Reference(path=Path(place), object_path=object_path)


def load_reference(reference: Reference) -> ModuleType:
    """Import what the reference names; meanwhile nothing can be run or deployed.

    Warns about functions that are marked for an app and that no app has.
    """
    with context.importing():
        if reference.path is not None:
            module = load_file(reference.path)
        else:
            module = load_module(reference.module or "")
    for name in _forgotten(module):
        echo(
            f"`{name}` belongs to no app: its decorator needs `@app.function()` above it.", err=True
        )
    return module


def _forgotten(module: ModuleType) -> list[str]:
    registered = [each for app in _apps(module) for each in app.registered_functions.values()]
    taken = {id(getattr(each, "_raw_f", None)) for each in registered}
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, PartialFunction) and id(value.raw_f) not in taken
    ]


def find_runnable(module: ModuleType, reference: Reference) -> Runnable:
    """The one object that `qmodal run` should run.

    Local entrypoints come before functions and methods, and what the module binds comes before
    what only an app knows. Raises InvalidError with the candidates if that leaves not just one.
    """
    everything = _candidates(module)
    meant = [each for each in everything if each.is_meant_by(reference.object_path)]
    if not meant:
        _refuse_web(_web_functions(module), reference)
    if not everything:
        raise InvalidError(
            f"{reference.text} defines nothing to run: decorate a function with "
            "`@app.local_entrypoint()` or `@app.function()`."
        )
    if not meant:
        raise InvalidError(
            f"There is nothing called `{reference.object_path}` to run in {reference.text}."
            + _listing(everything, reference)
        )
    best_rank = min(each.rank for each in meant)
    best = [each for each in meant if each.rank == best_rank]
    if len(best) > 1:
        raise InvalidError(
            f"{reference.text} has more than one object to run; say which."
            + _listing(best, reference)
        )
    return _for_spelling(best[0], module, reference.object_path)


def find_app(module: ModuleType, reference: Reference) -> AppShape:
    """The app that `deploy` and `serve` mean: the variable that is named, or `app`.

    Raises click.UsageError for a dotted path and InvalidError if the variable is no app.
    """
    wanted = reference.object_path or "app"
    if "." in wanted:
        raise click.UsageError(f"`{wanted}` should be an app's variable, a name without dots.")
    apps = dict(_app_variables(module))
    if wanted in apps:
        return apps[wanted]
    raise InvalidError(
        f"{reference.text} has no app in a variable `{wanted}`; "
        + (_app_advice(apps, reference) if apps else "define one with `app = qmodal.App(...)`.")
    )


def _no_file(place: str, text: str) -> str:
    if place and all(part.isidentifier() for part in place.split(".")):
        return f"`{place}` is a module path; for a module add -m: `-m {text}`."
    return f"`{place}` is no Python file: its name must end in .py."


def _candidates(module: ModuleType) -> list[_Candidate]:
    """Every runnable that has a spelling, once, although several apps may share it."""
    variables = list(_app_variables(module))
    bound = _names_by_identity(module)
    merged: dict[tuple[int, str], _Candidate] = {}
    for app in _apps(module):
        prefixes = [name for name, value in variables if value is app]
        for runnable in _runnables_of(app):
            key = (id(runnable.object), runnable.method)
            known = merged.get(key) or _candidate(runnable, bound.get(key[0], []))
            more = tuple(f"{prefix}.{runnable.name}" for prefix in prefixes)
            merged[key] = replace(known, spellings=known.spellings + more)
    return [candidate for candidate in merged.values() if candidate.spellings]


def _candidate(runnable: Runnable, names: Sequence[str]) -> _Candidate:
    suffix = f".{runnable.method}" if runnable.method else ""
    first_rank = _Rank.MODULE_ENTRYPOINT if names else _Rank.APP_ENTRYPOINT
    return _Candidate(
        runnable=runnable,
        spellings=tuple(f"{name}{suffix}" for name in names),
        rank=_Rank(first_rank + (runnable.kind != "entrypoint")),
    )


def _runnables_of(app: AppShape) -> Iterator[Runnable]:
    for name, entrypoint in app.registered_entrypoints.items():
        yield Runnable(kind="entrypoint", app=app, name=name, object=entrypoint)
    for tag, function in app.registered_functions.items():
        if not tag.endswith(".*") and not _is_web(function):
            yield Runnable(kind="function", app=app, name=tag, object=function)
    for tag, cls in app.registered_classes.items():
        for method in cls.method_names():
            name = f"{tag}.{method}"
            yield Runnable(kind="method", app=app, name=name, object=cls, method=method)


def _apps(module: ModuleType) -> list[AppShape]:
    """The apps in variables, `app` first, then those whose functions the module has imported."""
    variables = sorted(_app_variables(module), key=lambda pair: pair[0] != "app")
    owners = [_owner(value) for value in vars(module).values()]
    known = [app for _, app in variables] + [app for app in owners if app is not None]
    return list({id(app): app for app in known}.values())


def _app_variables(module: ModuleType) -> Iterator[tuple[str, AppShape]]:
    for name, value in vars(module).items():
        app = _as_app(value)
        if app is not None:
            yield name, app


def _owner(value: object) -> AppShape | None:
    if inspect.getattr_static(value, "app", None) is None:
        return None
    with contextlib.suppress(AttributeError):
        return _as_app(getattr(value, "app", None))
    return None


def _as_app(value: object) -> AppShape | None:
    """The value if it is an app with local definitions; nothing of a stranger's is evaluated."""
    names = ("registered_entrypoints", "registered_functions", "registered_classes")
    # `from qmodal import App` binds a class that has all of these names.
    if isinstance(value, type) or any(
        inspect.getattr_static(value, name, None) is None for name in names
    ):
        return None
    # An app that was looked up has no definitions here and says so with an AttributeError.
    return cast("AppShape", value) if all(hasattr(value, name) for name in names) else None


def _names_by_identity(module: ModuleType) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    for name, value in vars(module).items():
        names.setdefault(id(value), []).append(name)
    return names


def _for_spelling(candidate: _Candidate, module: ModuleType, path: str) -> Runnable:
    """`other.f` runs within `other`, also where `app` has included the same function."""
    runnable = candidate.runnable
    app = _as_app(vars(module).get(path.partition(".")[0]))
    for own in _runnables_of(app) if app is not None else ():
        if own.object is runnable.object and own.method == runnable.method:
            return own
    return runnable


def _refuse_web(names: Sequence[str], reference: Reference) -> None:
    """Raise InvalidError if the reference means one of these web functions."""
    path = reference.object_path
    if meant := [name for name in names if not path or name == path]:
        raise InvalidError(
            f"{', '.join(meant)}: a web function answers HTTP requests, and is not run. "
            f"`qmodal serve {reference.text}` serves it."
        )


def _web_functions(module: ModuleType) -> list[str]:
    found = []
    for app in _apps(module):
        found += [tag for tag, each in app.registered_functions.items() if _is_web(each)]
        for tag, cls in app.registered_classes.items():
            found += [f"{tag}.{method}" for method in cls.web_names()]
    return found


def _is_web(function: object) -> bool:
    return bool(getattr(function, "is_web", False))


def _listing(candidates: Sequence[_Candidate], reference: Reference) -> str:
    names = sorted({candidate.spellings[0] for candidate in candidates})
    return "\n" + "\n".join(f"  {reference.text}::{name}" for name in names)


def _app_advice(apps: Mapping[str, AppShape], reference: Reference) -> str:
    names = [f"`{reference.text}::{name}`" for name in apps]
    return f"say {names[0]}." if len(names) == 1 else f"say one of {', '.join(names)}."
