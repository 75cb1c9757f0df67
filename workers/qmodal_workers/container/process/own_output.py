"""Writes the container's own messages and flushes its output, whatever user code has done to the streams."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from qmodal.wire.foreign import ForeignError, touch

_STDERR = 2


def flush() -> None:
    """Flush `sys.stdout` and `sys.stderr`."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except BaseException:
            continue  # user code closed it, or put something else in its place


def show(text: str) -> None:
    """Write to `sys.stderr`, or to the pipe itself if user code has broken that."""
    try:
        touch(_write, text)
    except ForeignError:
        with suppress(OSError):  # closed, too
            os.write(_STDERR, text.encode(errors="backslashreplace"))


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
