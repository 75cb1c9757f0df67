"""The files of a first-party module or package, under the names they have in a bundle."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qmodal.source.ignore import Rule, is_ignored, rules_above, rules_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file on this machine and its name in the bundle, with `/` between the parts."""

    name: str
    path: Path
    size: int


def source_file(name: str, path: Path) -> SourceFile:
    return SourceFile(name=name, path=path, size=path.stat().st_size)


def files_of(top: str, place: Path) -> Iterator[SourceFile]:
    """The files of one top-level module (`place` is a file) or package (`place` is a folder).

    Left out are hidden files and folders (a `.env` holds secrets), `__pycache__`, virtual
    environments and what .gitignore names, but never Python files that are imported by now:
    version files and generated stubs are usually ignored by git and always needed.
    """
    if place.is_file():
        yield source_file(f"{top}.py", place)
        return
    names: set[str] = set()
    for file in _walk(place, top, rules_above(place), (place.resolve(),)):
        names.add(file.name)
        yield file
    for path in sorted(_imported_files(top, place)):
        name = f"{top}/{path.relative_to(place).as_posix()}"
        if name not in names:
            yield source_file(name, path)


def _walk(
    folder: Path, prefix: str, rules: tuple[Rule, ...], inside: tuple[Path, ...]
) -> Iterator[SourceFile]:
    rules = (*rules, *rules_of(folder))
    for path in _children(folder):
        name = f"{prefix}/{path.name}"
        if is_ignored(path, rules, is_folder=path.is_dir()):
            continue
        if path.is_file():
            yield source_file(name, path)
        elif path.is_dir() and _may_enter(path, inside):
            yield from _walk(path, name, rules, (*inside, path.resolve()))


def _children(folder: Path) -> list[Path]:
    children: list[Path] = []
    # A folder that this user may not read (a database's, say) is nobody's source.
    with contextlib.suppress(PermissionError):
        children = sorted(folder.iterdir())
    # A name that is no valid text cannot be written into an archive.
    return [path for path in children if path.name.isprintable() and path.name[0] != "."]


def _may_enter(folder: Path, inside: tuple[Path, ...]) -> bool:
    if folder.name == "__pycache__" or (folder / "pyvenv.cfg").exists():
        return False
    # A link to a folder that we are inside of would never end.
    return folder.resolve() not in inside


def _imported_files(top: str, place: Path) -> set[Path]:
    files: set[Path] = set()
    for name, module in tuple(sys.modules.items()):
        if name.partition(".")[0] != top:
            continue
        file = Path(getattr(module, "__file__", None) or "/")
        if file.suffix == ".py" and file.is_relative_to(place) and file.is_file():
            files.add(file)
    return files
