"""An interpreter that strips docstrings and assertions and takes warnings for errors: nothing misses them.

The quick tests run under it, too: pytest rewrites the assertions of test modules, and of those that
`tests/conftest.py` names, before they could be stripped.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest

from tests.support.installed import QMODAL, ROOT, Desk, desk

IMPORTS = """
import importlib, pkgutil, qmodal
count = 0
for package in ("qmodal", "qmodal_workers", "qmodal_autoscaler"):
    path = importlib.import_module(package).__path__
    for module in pkgutil.walk_packages(path, package + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
            count += 1
kinds = [kind for kind in vars(qmodal.exception).values() if isinstance(kind, type)]
made = [kind() for kind in kinds]
errors = [each for each in made if isinstance(each, qmodal.exception.Error)]
assert not "this is not run"
print(count > 150, len(errors) > 20, all(map(str, errors)))
"""
PROGRAM = '''
"""A program."""
import sys

import qmodal

app = qmodal.App("stripped")
assert False, "not run"

@app.function()
def square(x: int) -> int:
    """Its square."""
    return x * x

@app.function(retries=1)
def fail(x: int) -> None:
    """Never."""
    raise ValueError(x)

@app.function()
def count(n: int):
    """One after another."""
    yield from range(n)

@app.function()
async def nested(x: int) -> int:
    return square.local(x)

@app.cls()
class Scale:
    """By a factor."""

    by: int = qmodal.parameter(default=3)

    @qmodal.enter()
    def load(self) -> None:
        """Before the first."""
        self.loaded = True

    @qmodal.method()
    def scale(self, x: int) -> int:
        """Scaled."""
        return self.loaded and self.by * x

@app.local_entrypoint()
def main() -> None:
    """What `--help` would show."""
    said = []
    try:
        fail.remote(1)
    except ValueError as error:
        said.append(f"failed {error}")
    try:
        qmodal.FunctionCall.from_id("fc-00").get(timeout=1)
    except qmodal.exception.OutputExpiredError:
        said.append("expired")
    said.append(f"{square.remote(4)} {sum(square.map(range(100)))} {list(count.remote_gen(3))} {nested.remote(5)}")
    said.append(f"{Scale(by=4).scale.remote(2)} {Scale().scale.spawn(2).get()}")
    # In one write: between two of them the output of a container may come.
    sys.stdout.write("".join(line + "\\n" for line in said))
'''

# Tests that start none of our processes and take milliseconds each, but for some that simulate or race.
UNITS = ("app", "cli", "functions", "source", "spec", "store", "wire", "worker")
QUICK = (*(f"unit/{each}" for each in UNITS), "integration/scripts")
SLOW = (
    "unit/store/test_view.py",
    *(f"integration/scripts/test_{each}.py" for each in ("random_walk", "races", "sweeping")),
)
LEAST = 1900
# Two tests that have to fail: if their assertions were stripped, so were those of all others.
FAILING = """
from pathlib import Path
from tests.support.installed import Desk

def test_an_assertion_of_a_test_fails():
    assert __debug__

def test_an_assertion_of_what_tests_share_fails():
    Desk(Path("/")).run("false")
"""
PYTEST = (
    *("-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider"),
    *("--rootdir", ROOT, "-c", ROOT / "pyproject.toml"),
    # What pytest says of assertions that it does not rewrite: none of them is a test's.
    *("-W", "ignore:assertions not in test modules or plugins will be ignored"),
)


@pytest.fixture
def stripped() -> Iterator[Desk]:
    """Its processes keep their bytecode, which nothing else here does: each would compile everything."""
    with desk(PYTHONOPTIMIZE="2", PYTHONWARNINGS="error", PYTHONDONTWRITEBYTECODE="") as made:
        yield made


def test_every_module_can_be_imported_and_every_exception_has_a_text(stripped: Desk) -> None:
    assert stripped.python(IMPORTS) == "True True True"


def test_an_app_runs(stripped: Desk) -> None:
    program = stripped.base / "program.py"
    program.write_text(PROGRAM)
    lines = stripped.run(QMODAL, "run", program).splitlines()
    of_failures = ("fail, attempt", "Traceback", " ", "ValueError")
    # On a busy machine a process of the stack may say at its end that a socket was not closed yet.
    of_ends = ("Exception ignored in: <socket", "ResourceWarning: unclosed <socket")
    said = [line for line in lines if not line.startswith((*of_failures, *of_ends))]
    assert said == ["failed 1", "expired", "16 328350 [0, 1, 2] 25", "8 6"]


@pytest.mark.timeout(200)
def test_the_quick_tests_pass(stripped: Desk) -> None:
    failing = stripped.base / "test_failing.py"
    failing.write_text(FAILING)
    slow = [f"--deselect=tests/{each}" for each in SLOW]
    quick = [ROOT / "tests" / each for each in QUICK]
    with stripped.start(sys.executable, *PYTEST, *slow, failing, *quick) as process:
        output, _ = process.communicate(timeout=180)
    failed = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    assert [line.split("::")[1].split(" - ")[0] for line in failed] == [
        "test_an_assertion_of_a_test_fails",
        "test_an_assertion_of_what_tests_share_fails",
    ], output
    passed = re.search(r"^2 failed, (\d+) passed", output, re.MULTILINE)
    assert passed is not None, output
    assert int(passed[1]) > LEAST, output


@pytest.mark.parametrize(
    "argv", [("--help",), ("run", "program.py", "--help"), ("worker", "--help"), ("app", "--help")]
)
def test_the_commands_show_their_usage(stripped: Desk, argv: tuple[str, ...]) -> None:
    (stripped.base / "program.py").write_text(PROGRAM)
    assert "Usage: qmodal" in stripped.run(QMODAL, *argv)
