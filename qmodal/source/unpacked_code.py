"""The folder of unpacked code: it belongs to this user alone, and a bundle in it is what was unpacked, when it is imported.

The digests stand in a file beside the folder. They show what has changed by accident, or by a job that writes into its own
source; who is the same user can change both.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from qmodal.exception import ConfigurationError, DeserializationError

OTHERS_WRITE = 0o022


def digests_of(folder: Path) -> Path:
    """The file with the digests of what was unpacked to this folder."""
    return folder.with_name(f"{folder.name}.sha256")


def check_ours(cache: Path) -> None:
    """Raise ConfigurationError if somebody else could put code into the folder that is there."""
    try:
        about = cache.stat()
    except FileNotFoundError:
        return
    if about.st_uid != os.getuid():
        why, what = (
            "belongs to another user",
            f"remove it (as that user), or say chown {os.getuid()}",
        )
    elif about.st_mode & OTHERS_WRITE:
        why, what = "can be written to by others", "say chmod go-w"
    else:
        return
    raise ConfigurationError(
        f"Containers would run what others put into {cache}, which {why}: {what} {cache}, or set "
        "QMODAL_HOME to a folder of your own."
    )


def note_digests(folder: Path, target: Path) -> None:
    """Note what was unpacked to `folder`, which becomes `target`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = (f"{_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)
    growing = digests_of(folder)
    growing.write_text("".join(lines), encoding="utf-8")
    growing.rename(digests_of(target))


def check_unchanged(folder: Path) -> None:
    """Raise DeserializationError unless all that was unpacked is there as it was; the folder is removed then.

    What jobs have written beside it is not looked at.
    """
    try:
        _check_mode(folder)
        for line in digests_of(folder).read_text(encoding="utf-8").splitlines():
            digest, _, name = line.partition("  ")
            _check_mode(folder / name)
            if _digest(folder / name) != digest:
                raise PermissionError(f"{name} has changed")
    except (OSError, UnicodeDecodeError) as error:
        discard(folder)
        raise DeserializationError(
            f"The source in {folder} is not what was unpacked there ({error}). It is removed, and unpacked once more "
            "at the next start; jobs should write elsewhere."
        ) from error


def discard(folder: Path) -> None:
    """Remove a bundle's folder, which is there as a whole or not at all."""
    with contextlib.suppress(OSError):
        gone = Path(tempfile.mkdtemp(prefix=".gone-", dir=folder.parent))
        for each in (folder, digests_of(folder)):
            with contextlib.suppress(OSError):
                each.rename(gone / each.name)
        shutil.rmtree(gone, ignore_errors=True)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_mode(path: Path) -> None:
    about = path.lstat()
    if about.st_uid != os.getuid() or about.st_mode & OTHERS_WRITE:
        raise PermissionError(f"others can write to {path.name}")
