"""Which first-party modules a source file needs, read from its imports without running it."""

from __future__ import annotations

import ast
import importlib.util
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

from qmodal.source.tree import files_of

Places = tuple[Path, ...]

# Installed wherever a container runs; a checkout of qmodal is not the user's source.
_OURS = frozenset({"qmodal", "qmodal_workers", "qmodal_autoscaler"})
_INSTALL_FOLDERS = frozenset({"site-packages", "dist-packages"})


def imported_names(source: bytes) -> frozenset[str]:
    """The top-level names that a source imports, at any depth, also by `import_module("x")`.

    A source that does not parse imports nothing. A relative import of a loose script counts as
    one of its neighbours; inside a package it never leaves the package.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return frozenset()
    names = (name for node in ast.walk(tree) for name in _names_in(node))
    return frozenset(name.partition(".")[0] for name in names if name)


def first_party(
    start: Mapping[str, Places], entry: Path | None, roots: Sequence[Path]
) -> dict[str, Places]:
    """Every first-party top-level name that `entry` and the names in `start` need, with its places.

    A place is a file or a whole package folder; a namespace package may have several.
    """
    found = dict(start)
    sources = deque(_python_files(start))
    if entry is not None:
        sources.append(entry)
    while sources:
        for top in sorted(imported_names(sources.popleft().read_bytes()) - found.keys()):
            found[top] = () if top in _OURS else _without(entry, locate(top, roots))
            sources.extend(_python_files({top: found[top]}))
    return {top: places for top, places in found.items() if places}


def locate(top: str, roots: Sequence[Path]) -> Places:
    """Where a top-level module lives if it is first-party: in a root, or installed from below one.

    Empty for the standard library, for installed modules and for what is nowhere.
    """
    for own in _in_roots(top, roots):
        return () if _is_standard(top, own) or _in_install_folder(own) else (own,)
    if top in sys.stdlib_module_names:
        return ()
    place = located_by_python(top)
    if place is None:
        return tuple(root / top for root in roots if _is_namespace(root / top))
    below_root = any(place.resolve().is_relative_to(root.resolve()) for root in roots)
    return (place,) if below_root and not _in_install_folder(place) else ()


def located_by_python(top: str) -> Path | None:
    """Where the running interpreter finds a top-level module: its file, or its package's folder."""
    try:
        spec: ModuleSpec | None = importlib.util.find_spec(top)
    except (ValueError, ImportError):
        spec = None
    if spec is None or not spec.has_location or spec.origin is None:
        return None
    origin = Path(spec.origin)
    return origin.parent if origin.name == "__init__.py" else origin


def _names_in(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
    elif isinstance(node, ast.ImportFrom):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.Call) and _called_name(node) in ("import_module", "__import__"):
        literals = (each.value for each in node.args[:1] if isinstance(each, ast.Constant))
        yield from (value for value in literals if isinstance(value, str))


def _called_name(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _python_files(places: Mapping[str, Places]) -> Iterator[Path]:
    for top, each in places.items():
        for place in each:
            yield from (file.path for file in files_of(top, place) if file.path.suffix == ".py")


def _without(entry: Path | None, places: Iterable[Path]) -> Places:
    # An entry named like an installed module is stored under another name; under its own it
    # would hide the installed one from everybody.
    if entry is None:
        return tuple(places)
    return tuple(place for place in places if place.resolve() != entry.resolve())


def _in_roots(top: str, roots: Sequence[Path]) -> Iterator[Path]:
    for root in roots:
        if (root / top / "__init__.py").is_file():
            yield root / top
        elif (root / f"{top}.py").is_file():
            yield root / f"{top}.py"


def _is_standard(top: str, place: Path) -> bool:
    """Whether `import top` means the standard library although a root has a namesake."""
    if top not in sys.stdlib_module_names:
        return False
    file = Path(getattr(sys.modules.get(top), "__file__", None) or "/")
    return place.resolve() not in (file.resolve(), file.resolve().parent)


def _is_namespace(folder: Path) -> bool:
    return folder.is_dir() and any(
        file.path.suffix == ".py" for file in files_of(folder.name, folder)
    )


def _in_install_folder(place: Path) -> bool:
    return not _INSTALL_FOLDERS.isdisjoint(place.parts)
