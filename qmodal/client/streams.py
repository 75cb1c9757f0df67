"""The standard streams of a program that was started without some of them, as by `2>&-` or a daemon."""

from __future__ import annotations

import os
import sys
from typing import IO, Any


def open_missing() -> None:
    """Give this process the standard streams that it lacks: nothing to read, nowhere to write.

    Else the next file, pipe or connection gets the number, and what a library or a child process
    writes to standard error goes there; and to Python such a stream is None.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
            place: int | str = (
                os.devnull
            )  # if Python has no stream for it, it is something else by now
        except OSError:
            place = _opened(number)
        if getattr(sys, name) is None:
            setattr(sys, name, _stream(place, mode))


def _stream(place: int | str, mode: str) -> IO[Any]:
    return open(place, mode, encoding="utf-8", closefd=isinstance(place, str))


def _opened(number: int) -> int:
    found = os.open(os.devnull, os.O_RDWR)
    if found != number:
        os.dup2(found, number)
        os.close(found)
    os.set_inheritable(number, True)
    return number
