"""The pytest plugin in projects of others: the page about testing as a user types it, and what it costs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from pathlib import Path

from tests.documents.pages import DOCS, blocks, write_files

PAGE = DOCS / "testing.md"


def run_pytest(folder: Path, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """With no plugins but these, which takes a tenth of the time; the entry point is what `-p qmodal` finds."""
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\npythonpath = .\n")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ours = ("PYTEST_", "QMODAL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "xdist", "-p", "qmodal", *options],
        cwd=folder,
        env=kept
        | {"PATH": path, "HOME": str(folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        | environ,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


URLS = """
def test_url(qmodal_stack, worker_id):
    with open(f"url-{worker_id}", "w") as file:
        file.write(qmodal_stack.url)
"""


def test_the_page_about_testing_is_right_in_several_processes_with_a_stack_each(
    tmp_path: Path,
) -> None:
    """The variable names a server that there is not: no test may ask it."""
    names = write_files(PAGE, tmp_path)
    assert names == ["shop.py", "test_shop.py", "test_whole.py", "test_program.py"]
    (plain,) = (each.text for each in blocks(PAGE, "python") if each.file is None)
    (tmp_path / "test_plain.py").write_text(f"def test_plain():\n{textwrap.indent(plain, '    ')}")
    (tmp_path / "test_urls.py").write_text(URLS)
    run = run_pytest(tmp_path, "-n", "2", "--dist", "each", QMODAL_REDIS_URL="redis://127.0.0.1:1")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "18 passed" in run.stdout
    assert len({path.read_text() for path in tmp_path.glob("url-*")}) == 2


def test_the_plugin_imports_nothing_heavy_and_every_session_has_it() -> None:
    (point,) = entry_points(group="pytest11", name="qmodal")
    code = f"import sys, pytest; before = set(sys.modules); import {point.value}; print(*set(sys.modules) - before)"
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    ours = {"qmodal", "qmodal.testing", "qmodal.testing.plugin"}
    assert set(run.stdout.split()) == ours
