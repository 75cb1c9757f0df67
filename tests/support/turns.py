"""Which tests run at the same time: all of them, but those that are marked `alone`."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """Hold the machine for one test: shared with others, or `alone` once those under way have ended.

    The processes of one test run share `folder`. Lock order: the gate, then the machine. A test that
    waits to be alone keeps the gate, so that no other one begins meanwhile and it is not starved.
    """
    with ExitStack() as stack:
        gate = stack.enter_context(_opened(folder / "gate"))
        machine = stack.enter_context(_opened(folder / "machine"))
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        if not alone:
            fcntl.flock(gate, fcntl.LOCK_UN)
        yield


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        # A child that was forked in between holds the same lock; unlocking counts for all of them.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
