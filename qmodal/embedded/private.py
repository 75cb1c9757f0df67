"""Folders of private stacks: made under a lock, and swept by the next start if nobody holds it."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from qmodal.embedded.folder import (
    LOCK,
    is_ours,
    make_short_folder,
    open_lock,
    short_bases,
)

PREFIX = "qmodal-"
# Between making a folder and making its lock lies an instant, not a minute.
UNLOCKED_AFTER = 60.0


def make_private_folder() -> tuple[Path, int]:
    """A new folder (mode 0700) and the descriptor that holds its lock."""
    while True:
        folder = make_short_folder(PREFIX)
        lock = open_lock(folder / LOCK)
        if lock is not None and _still_there(folder, lock):
            return folder, lock
        # Somebody's sweep came between the two lines: take another one.
        if lock is not None:
            os.close(lock)


def sweep_abandoned() -> list[Path]:
    """Removes the private folders that no process uses any more, and returns them."""
    found = (folder for base in short_bases() for folder in base.glob(f"{PREFIX}*"))
    return [folder for folder in found if is_ours(folder) and remove_if_free(folder)]


def remove_if_free(folder: Path) -> bool:
    """Removes the folder unless somebody holds its lock; whether it did."""
    try:
        if not (folder / LOCK).exists() and time.time() - folder.stat().st_mtime < UNLOCKED_AFTER:
            return False
        lock = open_lock(folder / LOCK)
    except OSError:
        return False
    if lock is None:
        return False
    try:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
    return True


def _still_there(folder: Path, lock: int) -> bool:
    try:
        return (folder / LOCK).stat().st_ino == os.fstat(lock).st_ino
    except OSError:
        return False
