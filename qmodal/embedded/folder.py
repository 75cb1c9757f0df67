"""Folders and files that only we may read, and the lock that says a folder is in use."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from pathlib import Path

from qmodal.exception import ConfigurationError, clause

# The kernel allows 107 bytes (103 on macOS); the server refuses to start beyond that.
LONGEST_SOCKET = 100
SOCKET = "redis.sock"
LOCK = "lock"


def is_ours(folder: Path) -> bool:
    """Whether this is a folder that belongs to us and that nobody else may enter."""
    try:
        found = folder.stat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & 0o077 == 0
    )


def write_private(path: Path, text: str) -> None:
    """Replaces the file at once and whole, readable by us only."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(name).replace(path)


def open_lock(path: Path) -> int | None:
    """A descriptor that holds the folder's lock, or None if somebody has it.

    The lock belongs to the open file, not to a process: it is held as long as anyone who was
    passed the descriptor lives, and is free the moment the last of them is gone, however it went.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def fits_socket(folder: Path) -> bool:
    """Whether a Unix socket in this folder has a path that every system takes."""
    return len(os.fsencode(folder / SOCKET)) <= LONGEST_SOCKET


def short_bases() -> list[Path]:
    """The folders in which a short runtime folder may be made, preferred ones first."""
    bases = [Path(tempfile.gettempdir()), Path("/tmp")]
    return [base for base in dict.fromkeys(bases) if base.is_dir()]


def make_short_folder(prefix: str) -> Path:
    """A new folder (mode 0700) whose path leaves room for a socket."""
    for base in short_bases():
        if fits_socket(base / f"{prefix}xxxxxxxx"):
            return Path(tempfile.mkdtemp(prefix=prefix, dir=base))
    raise ConfigurationError(
        f"The temporary folder {tempfile.gettempdir()} has a path too long for a Unix socket; "
        "set TMPDIR to a shorter one"
    )


def check_home(home: Path) -> None:
    """Raise ConfigurationError if nothing can be written to the state folder; it need not exist yet."""
    place = home
    try:
        while not place.exists() and place != place.parent:
            place = place.parent
        if not place.is_dir():
            raise NotADirectoryError(f"{place} is no folder")
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(f"{place} cannot be written")
    except OSError as error:
        raise ConfigurationError(
            f"QMODAL_HOME: {home} cannot be used ({clause(error)}); name a folder of your own"
        ) from error
