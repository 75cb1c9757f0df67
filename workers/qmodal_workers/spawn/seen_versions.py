"""The highest version of each app that this box has seen as the current one: no earlier one is started after it.

A signature says that a version was published once, not that it is still the current one. Whoever can write to the
server can name an earlier version in the app's record; a box that knows a later one refuses that, also after a restart.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qmodal.embedded.folder import write_private
from qmodal.exception import Error
from qmodal.spec.documents import Version
from qmodal.spec.names import is_app_id
from qmodal.transport.defects import survive
from qmodal_workers.spawn.bounded_dict import BoundedDict

# Apps whose version is known, in memory and on the disk: those that were noted last.
MOST_APPS = 10_000
_LOCK = ".lock"


class SupersededError(Error):
    """An earlier version than one that was current already is given as the current one."""


class SeenVersions:
    """Notes versions in a file for each deployed app, which all workers of a user on this machine share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._highest: BoundedDict[str, int] = BoundedDict(MOST_APPS)

    def admit(self, version: Version) -> None:
        """Note a verified version that is said to be current; raises SupersededError if a later one was."""
        app = version.app_id
        highest = self._highest.get(app)
        if highest is None:
            highest = self._read(app)
        if version.number < highest:
            raise SupersededError(
                f"version {version.number} of {version.name!r} is given as the current one, and version {highest} has "
                "run here: the server has lost it, or its record was changed by something else than qmodal. "
                "Deploy the app again, or roll it back with `qmodal app rollback`."
            )
        if version.number != self._highest.get(app):
            self._highest[app] = version.number
            if version.number > highest and not version.is_ephemeral:
                with survive(f"noting which version of {version.name!r} has run here"):
                    self._write(app, version.number)

    def _read(self, app: str) -> int:
        """What is noted on the disk; 0 for nothing that can be read."""
        if not is_app_id(app):
            return 0
        try:
            return int((self._folder / app).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 0

    def _write(self, app: str, number: int) -> None:
        if not is_app_id(app):
            return
        with self._locked():
            if number > self._read(app):  # another worker may have been faster
                write_private(self._folder / app, f"{number}\n")
                self._prune()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self._folder / _LOCK).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _prune(self) -> None:
        files = [each for each in self._folder.iterdir() if is_app_id(each.name)]
        if len(files) > MOST_APPS:
            for each in sorted(files, key=lambda file: file.stat().st_mtime)[:-MOST_APPS]:
                each.unlink(missing_ok=True)
