"""Documents: every name, file, folder, script, command and setting that they mention exists."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import click
import pytest

from qmodal.cli import program
from qmodal.spec.options import FunctionOptions

ROOT = Path(__file__).parents[3]
PACKAGES = (
    ROOT / "qmodal",
    ROOT / "workers" / "qmodal_workers",
    ROOT / "autoscaler" / "qmodal_autoscaler",
)
LUA = ROOT / "qmodal" / "store" / "lua"
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
# Names of others, and of what ARCHITECTURE.md says that there is none of.
FOREIGN = {"noqa", "nox", "__init__"}

FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
SCRIPT = re.compile(r"\*\*(\w+)\.lua\*\*")
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAME = re.compile(r"@?[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
COMMENT = re.compile(r"--.*")
SETTING = re.compile(r"QMODAL_[A-Z_]+")


@dataclass
class Names:
    """What the code defines."""

    members: dict[str, set[str]] = field(default_factory=dict)  # of classes and modules, by name
    all: set[str] = field(default_factory=set)
    strings: set[str] = field(default_factory=set)  # options, settings, words of commands

    def has(self, dotted: str) -> bool:
        """Whether the name exists: `A.b` only if a class or module A has it."""
        *owners, last = dotted.split(".")
        if not owners:
            return last in self.all or last in self.strings
        return last in self.members.get(owners[-1], ()) and all(self.has(each) for each in owners)


def text_of(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted(package.rglob("*.py"))


@cache
def names() -> Names:
    found = Names()
    for path in sources():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        module = path.parent.name if path.stem == "__init__" else path.stem
        found.all.add(module)
        own = found.members.setdefault(module, set())
        own |= set(defined_by(tree))
        own |= {each.stem for each in path.parent.iterdir()} if path.stem == "__init__" else set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                members = found.members.setdefault(node.name, set())
                members |= set(defined_by(node)) | set(attributes_of(node))
            if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                word = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
                found.strings.add(word)
    for members in found.members.values():
        found.all |= members
    markers = re.findall(r'^  "(\w+): ', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    found.strings |= set(markers)
    for script in LUA.rglob("*.lua"):
        found.strings |= set(re.findall(r"\w+", COMMENT.sub("", script.read_text())))
    return found


def defined_by(node: ast.Module | ast.ClassDef) -> Iterator[str]:
    """The names that the body of a module or class defines."""
    for each in node.body:
        match each:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield each.name
            case ast.Assign():
                yield from (target.id for target in each.targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case _:
                pass


def attributes_of(node: ast.ClassDef) -> Iterator[str]:
    """The attributes that the methods of a class assign."""
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store):
            yield each.attr


def is_path(span: str) -> bool:
    return re.fullmatch(r"[\w.~/-]+", span) is not None and "/" in span and span[0] not in "~/"


def exists(path: str) -> bool:
    """Whether there is such a file or folder, below the root or a package."""
    return any((base / path).exists() for base in (ROOT, *PACKAGES))


def missing_paths(page: Path) -> list[str]:
    spans = [span.removesuffix("…") for span in SPAN.findall(text_of(page))]
    return [span for span in spans if is_path(span) and not exists(span)]


def missing_commands(page: Path) -> list[str]:
    """Commands of `qmodal` that a page mentions and that there are not."""
    known = {*program.list_commands(click.Context(program))}
    found = [span.split()[1:] for span in SPAN.findall(text_of(page)) if span.startswith("qmodal ")]
    return [" ".join(words) for words in found if not {words[0], " ".join(words[:2])} & known]


def missing_settings(page: Path) -> set[str]:
    return set(SETTING.findall(page.read_text(encoding="utf-8"))) - names().strings


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in found}


def broken_links(page: Path) -> Iterator[str]:
    for link in LINK.findall(text_of(page)):
        target, _, anchor = link.partition("#")
        place = (page.parent / target) if target else page
        if "://" in link:
            continue
        if not place.exists() or (anchor and anchor not in headings(place)):
            yield link


def python_name(span: str) -> str:
    """A decorator by its name in the code: `@app.function` is `App.function`."""
    return span.replace("@app.", "App.").removeprefix("@")


@pytest.mark.parametrize("page", [ARCHITECTURE, *PAGES], ids=lambda page: page.name)
def test_what_a_page_points_to_exists(page: Path) -> None:
    assert missing_paths(page) == []
    assert list(broken_links(page)) == []
    assert missing_commands(page) == []
    assert missing_settings(page) == set()


def test_every_name_in_the_architecture_exists_in_the_code() -> None:
    spans = [span for span in SPAN.findall(text_of(ARCHITECTURE)) if NAME.fullmatch(span)]
    assert len(spans) > 100
    files = {span for span in spans if exists(span)}
    unknown = {
        span for span in spans if span not in FOREIGN | files and not names().has(python_name(span))
    }
    assert unknown == set()


def test_every_class_in_the_architecture_is_one() -> None:
    """A word that is only the name of an argument or a string would not do."""
    spans = SPAN.findall(text_of(ARCHITECTURE))
    classes = {span for span in spans if re.fullmatch(r"([A-Z][a-z]+)+", span)}
    assert classes - names().members.keys() == set()


def test_every_script_in_the_architecture_exists() -> None:
    found = set(SCRIPT.findall(ARCHITECTURE.read_text(encoding="utf-8")))
    assert found - {path.stem for path in LUA.rglob("*.lua")} == set()
    assert found


def rooms() -> dict[str, str]:
    """The tree in ARCHITECTURE.md: each folder by its path, with its sentence."""
    section = ARCHITECTURE.read_text(encoding="utf-8").split("\n## 2. Rooms\n")[1]
    found: dict[str, str] = {}
    above: list[str] = []
    for line in section.split("```")[1].splitlines():
        if shaped := re.fullmatch(r"( *)(\S+)/ +(.+)", line):
            above = [*above[: len(shaped[1]) // 2], shaped[2]]
            found["/".join(above)] = shaped[3]
    return found


def test_the_tree_in_the_architecture_is_that_of_the_folders() -> None:
    files = [
        path
        for folder in (*PACKAGES, ROOT / "tests")
        for path in folder.rglob("*")
        if path.suffix in {".py", ".lua", ".json"}
    ]
    folders = {folder for path in files for folder in path.parents if ROOT in folder.parents}
    folders -= {ROOT / "workers", ROOT / "autoscaler"}
    assert set(rooms()) == {str(folder.relative_to(ROOT)) for folder in folders}


def test_the_tree_and_the_rooms_say_the_same() -> None:
    for folder, sentence in rooms().items():
        module = ROOT / folder / "__init__.py"
        if folder != "qmodal" and module.exists():
            docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
            said = docstring.splitlines()[0]
            assert said == f"{sentence[0].upper()}{sentence[1:]}.", folder


def layers() -> list[str]:
    """The contracts about arrows, as ARCHITECTURE.md writes them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = []
    for contract in project["tool"]["importlinter"]["contracts"]:
        rooms = [re.split(r" [|:] ", layer) for layer in contract.get("layers", ())]
        rows = [", ".join(f"`{each.rpartition('.')[2]}`" for each in row) for row in rooms]
        found += [" → ".join(rows)] if rows else []
    return found


@pytest.mark.parametrize("arrows", layers())
def test_the_arrows_in_the_architecture_are_the_contracts(arrows: str) -> None:
    assert f": {arrows}." in " ".join(text_of(ARCHITECTURE).split())


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = [page.name for page in (ROOT / "docs").glob("*.md")]
    assert [name for name in pages if f"(docs/{name})" not in readme] == []


def test_every_setting_has_a_row() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    places = ("config.py", "services/gateway/options.py")
    code = "".join((ROOT / "qmodal" / each).read_text(encoding="utf-8") for each in places)
    rows = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert set(SETTING.findall(code)) == rows


def test_the_options_have_the_defaults_that_the_page_about_scaling_says() -> None:
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?`) \| (.+?) \|", page, re.MULTILINE)
    said = {name: default for cell, default in rows for name in re.findall(r"`(\w+)`", cell)}
    options = FunctionOptions()
    real = {name: getattr(options, name) for name in said}
    shown = {n: "none" if value in (None, (), {}) else f"{value}" for n, value in real.items()}
    special = {"startup_timeout": "as `timeout`"} | {
        name: f'`"{real[name]}"`' for name in ("delivery", "on_crash_loop")
    }
    assert said == shown | special


def test_the_doctor_and_the_page_about_security_give_a_redis_user_the_same_rights() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    checks = ROOT / "qmodal" / "cli" / "commands" / "doctor_checks.py"
    (rights,) = re.findall(r"\+@all .*", page)
    assert rights in checks.read_text(encoding="utf-8")


def test_the_examples_of_the_pages_are_python() -> None:
    for page in PAGES:
        for block in re.findall(
            r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL
        ):
            compile(block, page.name, "exec")


def test_the_changelog_has_each_section_once_and_in_order() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    unreleased = text.split("\n## ")[1]
    assert unreleased.startswith("[Unreleased]")
    assert re.findall(r"^### (\w+)", unreleased, re.MULTILINE) == ["Added", "Changed", "Fixed"]
