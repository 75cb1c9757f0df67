"""The installed `qmodal` program, for tests that use it as a person would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from qmodal.config import Settings

PROGRAM = str(Path(sys.executable).with_name("qmodal"))
_OURS = ("QMODAL_", "REDIS_URL", "FORCE_COLOR", "PYTHONPATH")


def environ(settings: Settings | None = None, **more: str) -> dict[str, str]:
    """The variables for a program that uses the server of `settings`, or that finds none."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return plain | (settings.to_environ() if settings else {}) | more


def qmodal(
    *argv: str | Path, settings: Settings | None = None, cwd: Path, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [PROGRAM, *argv],
        cwd=cwd,
        env=environ(settings, **{"QMODAL_HOME": str(cwd / "home"), **more}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@contextmanager
def started(
    *argv: str | Path, settings: Settings | None = None, cwd: Path, more: Mapping[str, str] = {}
) -> Iterator[subprocess.Popen[str]]:
    """A command that runs during the block, in a session of its own."""
    process = subprocess.Popen(
        [PROGRAM, *argv],
        cwd=cwd,
        env=environ(settings, QMODAL_HOME=str(cwd / "home"), PYTHONUNBUFFERED="1", **more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()
