"""Writes what the container itself has to say to its streams, whatever user code has made of these."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from qmodal.wire.foreign import ForeignError, touch

_STDERR = 2


def flush() -> None:
    """Flush what user code has printed."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except BaseException:
            continue  # user code closed it, or put something else in its place


def show(text: str) -> None:
    """Write to the standard error: as user code has it, else to the pipe itself."""
    try:
        touch(_write, text)
    except ForeignError:
        with suppress(OSError):  # closed, too
            os.write(_STDERR, text.encode(errors="backslashreplace"))


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
