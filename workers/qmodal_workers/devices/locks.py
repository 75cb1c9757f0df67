"""Locks of GPUs: files of the machine that the processes of a container hold locked, for as long as one of them lives.

The worker takes a lock and passes its descriptors to the container's process before that runs user code. The lock
belongs to what is open, not to a process, so the kernel gives it up when the last process that has inherited it ends.
Whatever becomes of the worker (killed, frozen, back under a new id), no other one gets that GPU before.

A GPU has a file, locked alone (exclusively) for the whole, together (shared) for a share; its content says in how many
shares it is cut, which is true while anybody has it locked. Each share has a file of its own, locked alone.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_MODE = 0o666


class GpuLocks:
    """The lock files of the GPUs of this machine, in a folder that all its workers share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._make_folder()

    def _make_folder(self) -> None:
        with suppress(FileExistsError):
            self._folder.mkdir(parents=True)
            self._folder.chmod(0o1777)  # workers of other users lock the same GPUs

    def take(self, uuid: str, shares: int = 1) -> tuple[int, ...]:
        """Lock the whole GPU, or one of so many shares; the descriptors, none if others have it.

        Raises OSError where files cannot be made or locked.
        """
        gate = self._open(uuid)
        locked: tuple[int, ...] = ()
        try:
            if shares > 1:
                share = self._share(gate, uuid, shares)
                locked = (gate, share) if share else ()
            elif _try(gate, fcntl.LOCK_EX):
                locked = (gate,)
        finally:
            if not locked:
                os.close(gate)
        return locked

    def _share(self, gate: int, uuid: str, shares: int) -> int:
        """Lock a share, and the GPU against all that cut it otherwise; 0 if there is none."""
        if _try(gate, fcntl.LOCK_EX):  # nobody has any of it
            os.ftruncate(gate, 0)
            os.pwrite(gate, str(shares).encode(), 0)
        # Between the two locks somebody else may get it, so what counts is read under the second one.
        if not _try(gate, fcntl.LOCK_SH) or os.pread(gate, 16, 0) != str(shares).encode():
            return 0
        for index in range(shares):
            share = self._open(f"{uuid}.{index}")
            if _try(share, fcntl.LOCK_EX):
                return share
            os.close(share)
        return 0

    def keep(self, uuids: Iterable[str]) -> None:
        """Have what tidies old files leave those of these GPUs: a file that is made anew is another lock."""
        for uuid in uuids:
            for path in self._folder.glob(f"{_name(uuid)}*"):
                with suppress(OSError):
                    os.utime(path)

    def _open(self, name: str) -> int:
        """The file of that name, which is still there: one that was removed meanwhile would lock nothing."""
        self._make_folder()
        path = self._folder / _name(name)
        while True:
            fd = _opened(path)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), path.stat()):
                    return fd
            os.close(fd)


def _opened(path: Path) -> int:
    """Open the file, or make it; the descriptor is not inherited by programs."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileExistsError):
        # Not with one flag for both: kernels forbid that for files of other users in folders like /tmp.
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, _MODE)
        os.fchmod(fd, _MODE)
        return fd
    fd = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"{path} is no file that could be locked; remove it")
    return fd


def _try(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _name(uuid: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", uuid)
