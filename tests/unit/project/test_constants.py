"""Constants of the lower rooms: a name that two modules give to two numbers says nothing in either."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[3] / "qmodal"
ROOMS = ("spec", "client", "transport", "store", "wire", "source", "embedded")


def constants_of(path: Path) -> set[str]:
    """The public names in capitals that a module gives a value, but for its type variables."""
    tree = ast.parse(path.read_text("utf-8"))
    assigned = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    targets = [target for node in assigned for target in ast.walk(node) if is_set(target)]
    names = {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in names if name.isupper() and name[0] != "_" and len(name) > 1}


def is_set(node: ast.AST) -> bool:
    """Whether it is a name that is given a value."""
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def test_constants_are_found(tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    file.write_text("AB, B_C = 1, 2\nDE: int = AB\n_E = 3\nT = 4\nf = DE\n")
    assert constants_of(file) == {"AB", "B_C", "DE"}


def test_a_constant_has_one_meaning() -> None:
    owners: dict[str, list[str]] = defaultdict(list)
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for name in constants_of(path):
                owners[name].append(str(path.relative_to(ROOT)))
    assert {name: found for name, found in owners.items() if len(found) > 1} == {}
