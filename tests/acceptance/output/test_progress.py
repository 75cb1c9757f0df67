"""The bar of a map, on a terminal that is one, and nowhere else."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import qmodal, time
app = qmodal.App("bar")

@app.function()
def slowly(x: int) -> int:
    time.sleep(0.02)
    if x == 30:
        raise ValueError(x)
    return x

@app.local_entrypoint()
def main() -> None:
    done = 0
    for _ in slowly.map(range(60), return_exceptions=True):
        done += 1
        if done == 5:
            time.sleep(1.5)  # six times as long as between two looks of the bar
    print(done)
"""


def run_on_terminal(
    folder: Path, *options: str, code: str = PROGRAM, status: int = 0
) -> tuple[str, str]:
    """Standard output, and what a terminal on standard error was sent."""
    (folder / "bar.py").write_text(code)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-P", "-m", "qmodal", "run", *options, "bar.py"]
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "QMODAL_HOME": str(folder / "home"),
        "TERM": "xterm",
        "COLUMNS": "120",
    }
    with subprocess.Popen(
        command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=theirs, text=True
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the last one that wrote to it is gone
                break
            if not part:
                break
            shown += part
        assert process.stdout is not None
        printed = process.stdout.read()
    os.close(ours)
    assert process.returncode == status, shown
    return printed, shown.decode(errors="replace")


def test_a_map_shows_how_far_it_is(tmp_path: Path) -> None:
    printed, shown = run_on_terminal(tmp_path)
    assert "60/60, 1 failed, " in shown
    assert re.search(r"\d+/60, \d+ running, .*\d:\d\d left", shown)
    assert printed.endswith("60\n")
    assert "/60" not in printed


def test_a_map_that_fails_has_left_its_bar_before_the_traceback(tmp_path: Path) -> None:
    _, shown = run_on_terminal(
        tmp_path, code=PROGRAM.replace(", return_exceptions=True", ""), status=1
    )
    _, _, rest = shown.rpartition(" failed, ")
    assert "Traceback" in rest
    assert "\x1b[2K" not in rest  # nothing is drawn again


def test_a_quiet_map_shows_nothing(tmp_path: Path) -> None:
    _, shown = run_on_terminal(tmp_path, "--quiet")
    assert "/60" not in shown
