"""Commands of the installed program, and what they print."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qmodal.config import Settings
from tests.support.commands import qmodal


@dataclass(frozen=True, slots=True)
class Commands:
    """Runs commands in a folder, with the server of these settings."""

    settings: Settings
    folder: Path

    def say(self, *argv: str | Path) -> str:
        """What a command prints that succeeds."""
        done = qmodal(*argv, settings=self.settings, cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def plain(self, *argv: str | Path) -> Any:
        """What it prints as JSON."""
        return json.loads(self.say(*argv, "--json"))

    def refused(self, *argv: str | Path) -> str:
        """What a command says that fails."""
        done = qmodal(*argv, settings=self.settings, cwd=self.folder)
        assert done.returncode in (1, 2), (done.stdout, done.stderr)
        return done.stderr
