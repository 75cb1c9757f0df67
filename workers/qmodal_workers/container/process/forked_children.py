"""Processes that user code forks: one that comes back to us from it ends.

It has all that its parent has, the claimed inputs and the connection among it. It would settle what
its parent runs, and claim on as if it were the container.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn


class _Here:
    """Whether this process was forked by user code; `disarm` takes our signal handlers from it."""

    __slots__ = ("disarm", "is_child", "is_watched")

    def __init__(self) -> None:
        self.is_child = False
        self.is_watched = False
        self.disarm: Callable[[], object] | None = None


here = _Here()


def watch(disarm: Callable[[], object] | None = None) -> None:
    """From here on this process runs user code, and what is forked from it is not ours."""
    here.is_child = False
    here.disarm = disarm
    if not here.is_watched:  # a template's containers are watched since it was
        here.is_watched = True
        os.register_at_fork(after_in_child=_forked)


def _forked() -> None:
    here.is_child = True
    if here.disarm is not None:
        here.disarm()


def end_if_child(error: BaseException | None = None) -> None:
    """Where user code has returned or raised: goes on in the process that serves only."""
    if here.is_child:
        _end(error)


def _end(error: BaseException | None) -> NoReturn:
    """As a program ends with that error; what user code has to say about it cannot keep it."""
    status = 0 if error is None else 1
    try:
        if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
            status = (error.code or 0) & 0xFF
        elif error is not None:
            traceback.print_exception(error)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(status)
