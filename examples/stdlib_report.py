"""What the standard library is made of: one input a source file, a dataclass as the result.

`qmodal run examples/stdlib_report.py`, with `--below email` for a part of it, or with `--no-check`
for the speed of the map alone
"""

import ast
import sysconfig
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import qmodal

STDLIB = Path(sysconfig.get_path("stdlib"))
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

app = qmodal.App("stdlib-report")


@dataclass(frozen=True)
class Report:
    """One file, or several added up."""

    files: int = 1
    unreadable: int = 0
    size: int = 0
    functions: int = 0
    longest: tuple[int, str] = (0, "-")
    names: tuple[tuple[str, int], ...] = ()


@app.function(max_containers=4)
def analyse(path: str) -> Report:
    """The report on one file, named by its path below the standard library's folder."""
    source = (STDLIB / path).read_bytes()
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(source)
    except (SyntaxError, ValueError):  # some of the library's own test files are broken on purpose
        return Report(unreadable=1, size=len(source))
    nodes = list(ast.walk(tree))
    functions = [node for node in nodes if isinstance(node, FUNCTIONS)]
    lengths = [((f.end_lineno or 0) - f.lineno + 1, f"{path}:{f.name}") for f in functions]
    names = Counter(node.id for node in nodes if isinstance(node, ast.Name))
    return Report(
        size=len(source),
        functions=len(functions),
        longest=max(lengths, default=(0, "-")),
        names=tuple(names.items()),
    )


def total(reports: Sequence[Report]) -> Report:
    """All reports as one."""
    names: Counter[str] = Counter()
    for report in reports:
        names.update(dict(report.names))
    return Report(
        files=len(reports),
        unreadable=sum(report.unreadable for report in reports),
        size=sum(report.size for report in reports),
        functions=sum(report.functions for report in reports),
        longest=max(report.longest for report in reports),
        names=tuple(names.most_common(8)),
    )


@app.local_entrypoint()
def main(check: bool = True, below: str = ".") -> None:
    found = (path.relative_to(STDLIB) for path in (STDLIB / below).rglob("*.py"))
    paths = sorted(str(path) for path in found if "site-packages" not in path.parts)

    begin = time.perf_counter()
    reports = []
    for path, report in zip(paths, analyse.map(paths), strict=True):
        if check:  # by a plain loop in this process, while the containers go on
            assert report == analyse.local(path), path
        reports.append(report)
    elapsed = time.perf_counter() - begin

    whole = total(reports)
    lines, name = whole.longest
    rows = {
        "files": f"{whole.files} ({whole.unreadable} of them no valid source)",
        "bytes": f"{whole.size:,}",
        "functions": f"{whole.functions:,}",
        "longest function": f"{name}, {lines} lines",
        "most used names": ", ".join(f"{name} ({count:,})" for name, count in whole.names),
        "time": f"{elapsed:.1f} s" + (", with every report checked here" if check else ""),
    }
    for title, value in rows.items():
        print(f"{title:18}{value}")
