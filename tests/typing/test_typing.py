"""What mypy and pyright say about programs: right ones pass, and wrong ones fail line by line."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
RIGHT, WRONG = PROGRAMS / "right.py", PROGRAMS / "wrong.py"
MARK = "# wrong"
CONFIG = "[mypy]\nstrict = true\nplugins = qmodal.mypy_plugin\n"
# By the name of a program, what is wrong in which line.
Found = dict[str, dict[int, str]]
pytestmark = pytest.mark.timeout(300)


def marked(program: Path) -> set[int]:
    lines = program.read_text().splitlines()
    return {
        n for n, line in enumerate(lines, 1) if line.endswith(MARK) and not line.startswith('"')
    }


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "MYPYPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, env=environ
    )


def mypy_lines(folder: Path) -> Found:
    """What mypy finds in both programs, which it is given at once."""
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed here")
    config = folder / "mypy.ini"
    config.write_text(CONFIG)
    cache = ROOT / ".mypy_cache" / "typing"
    options = ("--config-file", str(config), "--cache-dir", str(cache), "--no-error-summary")
    done = run("-m", "mypy", *options, str(RIGHT), str(WRONG))
    assert done.returncode in (0, 1), done.stdout + done.stderr
    lines = re.findall(r"^(\S+?\.py):(\d+): error: (.*)$", done.stdout, flags=re.MULTILINE)
    return found_in((file, int(line), text) for file, line, text in lines)


def pyright_lines() -> Found:
    """What pyright finds in both."""
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed here")
    done = run(
        "-m",
        "pyright",
        "--outputjson",
        "--pythonpath",
        sys.executable,
        *map(str, PROGRAMS.glob("*.py")),
    )
    try:
        found = json.loads(done.stdout)["generalDiagnostics"]
    except ValueError:
        pytest.skip(f"pyright cannot run here: {(done.stderr or done.stdout).strip()[-200:]}")
    return found_in(
        (each["file"], each["range"]["start"]["line"] + 1, each["message"])
        for each in found
        if each["severity"] == "error"
    )


def found_in(errors: Iterable[tuple[str, int, str]]) -> Found:
    found: Found = {RIGHT.name: {}, WRONG.name: {}}
    for file, line, text in errors:
        if Path(file).name in found:
            found[Path(file).name][line] = text
    return found


def test_mypy_accepts_the_right_program_and_refuses_the_wrong_lines_alone(tmp_path: Path) -> None:
    found = mypy_lines(tmp_path)
    assert found[RIGHT.name] == {}
    assert found[WRONG.name].keys() == marked(WRONG)


def test_pyright_accepts_the_right_program_and_refuses_the_wrong_lines_alone() -> None:
    found = pyright_lines()
    assert found[RIGHT.name] == {}
    assert found[WRONG.name].keys() == marked(WRONG)
