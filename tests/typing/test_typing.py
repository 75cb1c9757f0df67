"""What mypy and pyright say about programs: right ones pass, and wrong ones fail line by line."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
RIGHT, WRONG = PROGRAMS / "right.py", PROGRAMS / "wrong.py"
MARK = "# wrong"
CONFIG = "[mypy]\nstrict = true\nplugins = qmodal.mypy_plugin\n"
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


def mypy_lines(program: Path, folder: Path) -> dict[int, str]:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed here")
    config = folder / "mypy.ini"
    config.write_text(CONFIG)
    cache = ROOT / ".mypy_cache" / "typing"
    options = ("--config-file", str(config), "--cache-dir", str(cache), "--no-error-summary")
    done = run("-m", "mypy", *options, str(program))
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = re.findall(r"^(\S+?\.py):(\d+): error: (.*)$", done.stdout, flags=re.MULTILINE)
    return {int(line): text for file, line, text in found if Path(file).name == program.name}


def pyright_lines(program: Path) -> dict[int, str]:
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed here")
    done = run("-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(program))
    try:
        found = json.loads(done.stdout)["generalDiagnostics"]
    except ValueError:
        pytest.skip(f"pyright cannot run here: {(done.stderr or done.stdout).strip()[-200:]}")
    return {
        each["range"]["start"]["line"] + 1: each["message"]
        for each in found
        if each["severity"] == "error"
    }


def test_mypy_accepts_the_right_program(tmp_path: Path) -> None:
    assert mypy_lines(RIGHT, tmp_path) == {}


def test_mypy_refuses_the_wrong_lines_and_no_others(tmp_path: Path) -> None:
    assert mypy_lines(WRONG, tmp_path).keys() == marked(WRONG)


def test_pyright_accepts_the_right_program() -> None:
    assert pyright_lines(RIGHT) == {}


def test_pyright_refuses_the_wrong_lines_and_no_others() -> None:
    assert pyright_lines(WRONG).keys() == marked(WRONG)
