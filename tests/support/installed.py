"""The installed programs as a user runs them: in a home of their own, without any server named."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
QMODAL = BIN / "qmodal"


@dataclass(frozen=True, slots=True)
class Desk:
    """A place to run programs from; whatever is started here is known by its temporary folder."""

    base: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def temporary(self) -> Path:
        return self.base / "tmp"

    def environ(self) -> dict[str, str]:
        """The variables of a person who has set nothing but `settings`."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("QMODAL_") and name not in {"REDIS_URL", "PYTHONPATH"}
        }
        return {
            **kept,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.base),
            "TMPDIR": str(self.temporary),
            **self.settings,
        }

    def run(self, *argv: str | Path, seconds: float = 50.0) -> str:
        """The program's output; fails with all that it said if its exit code is not 0."""
        with self.start(*argv) as process:
            output, _ = process.communicate(timeout=seconds)
        assert process.returncode == 0, output
        return output

    def python(self, code: str, *argv: str) -> str:
        """What a program in a process of its own prints."""
        return self.run(sys.executable, "-P", "-W", "error", "-c", code, *argv).strip()

    @contextmanager
    def start(self, *argv: str | Path) -> Iterator[subprocess.Popen[str]]:
        """The program in a session of its own; it is killed at the end if it still runs."""
        process = subprocess.Popen(
            argv,
            cwd=self.base,
            env=self.environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def processes(self) -> dict[int, str]:
        """The command lines of all processes that were started from here and still live."""
        found = {}
        for process in psutil.process_iter():
            try:
                line = " ".join(process.cmdline())
                # The server gets no variables, but its folder is in its command line.
                is_ours = process.environ().get("TMPDIR") == str(self.temporary)
                is_ours = is_ours or f"{self.temporary}/" in line
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = line
            except psutil.Error:
                continue
        return found

    def wait_until_empty(self, seconds: float = 15.0) -> None:
        """Fails with what is still there: processes, or files in the temporary folder."""
        left: list[object] = []

        def is_empty() -> bool:
            left[:] = [*self.processes().items(), *self.temporary.iterdir()]
            return not left

        try:
            wait_until(is_empty, what="the end of everything", seconds=seconds, pause=0.05)
        except AssertionError as error:
            raise AssertionError(f"left behind: {left}") from error


@contextmanager
def desk(**settings: str) -> Iterator[Desk]:
    """An empty desk, with a path that is short enough for the sockets below it."""
    with tempfile.TemporaryDirectory(prefix="d-", dir="/tmp") as name:
        made = Desk(Path(name), settings)
        made.temporary.mkdir()
        yield made
