"""The shape of the house: folders that can be overlooked, imports without circles, a sentence for each room."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = {
    "qmodal": ROOT / "qmodal",
    "qmodal_workers": ROOT / "workers" / "qmodal_workers",
    "qmodal_autoscaler": ROOT / "autoscaler" / "qmodal_autoscaler",
}
MOST_ENTRIES = 14
# The modules whose names Modal's programs import stand beside the rooms, and so do bridges from other libraries.
MOST_IN_QMODAL = 28
DEEPEST = 11
IGNORED = {"__init__.py", "__pycache__"}


def modules() -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports_of(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """The modules of ours that a file imports anywhere: eagerly, lazily, or for its types only."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # A name of a package is its module of that name, or else something of the package.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in names]
        yield from (name for name in names if name in known)


@cache
def graph() -> dict[str, frozenset[str]]:
    """What each module imports; packages themselves only name their parts, and do not count."""
    known = modules()
    files = {name for name, path in known.items() if path.name != "__init__.py"}
    return {name: frozenset(files & set(imports_of(known[name], known)) - {name}) for name in files}


def room_of(module: str) -> str:
    """The first folder below the package, or the module where there is none."""
    return ".".join(module.split(".")[:2])


def rooms(package: str) -> dict[str, frozenset[str]]:
    """Which rooms of the package each of its rooms' modules import."""
    found: dict[str, set[str]] = {}
    for module, imported in graph().items():
        room = room_of(module)
        if room.startswith(f"{package}."):
            found.setdefault(room, set()).update(room_of(each) for each in imported)
            found[room].discard(room)
    return {room: frozenset(others & found.keys()) for room, others in found.items()}


def longest_path(arrows: Mapping[str, frozenset[str]]) -> list[str]:
    """The longest chain of arrows; fails with the circle if there is one."""
    known: dict[str, list[str]] = {}

    def below(name: str, above: tuple[str, ...]) -> list[str]:
        assert name not in above, f"a circle: {' -> '.join([*above[above.index(name) :], name])}"
        if name not in known:
            chains = [below(other, (*above, name)) for other in sorted(arrows[name])]
            known[name] = [name, *max(chains, key=len, default=[])]
        return known[name]

    return max((below(name, ()) for name in arrows), key=len)


def folders() -> list[Path]:
    return [
        folder
        for root in [*PACKAGES.values(), ROOT / "tests"]
        for folder in [root, *root.rglob("*")]
        if folder.is_dir() and "__pycache__" not in folder.parts
    ]


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_folder_can_be_overlooked(folder: Path) -> None:
    entries = sorted(each.name for each in folder.iterdir() if each.name not in IGNORED)
    most = MOST_IN_QMODAL if folder == PACKAGES["qmodal"] else MOST_ENTRIES
    assert len(entries) <= most, entries


def test_no_module_imports_itself_through_others() -> None:
    longest_path(graph())


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_have_no_circle_and_are_not_too_deep(package: str) -> None:
    path = longest_path(rooms(package))
    assert len(path) <= DEEPEST, path


@pytest.mark.parametrize("name", [n for n, path in modules().items() if path.name == "__init__.py"])
def test_a_room_says_in_one_sentence_what_belongs_in_it(name: str) -> None:
    docstring = ast.get_docstring(ast.parse(modules()[name].read_text(encoding="utf-8"))) or ""
    sentence = docstring.splitlines()[0] if docstring else ""
    assert sentence.endswith("."), docstring
    assert ". " not in sentence, sentence
