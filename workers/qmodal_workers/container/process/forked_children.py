"""Ends a process that user code has forked where it would return from user code into ours.

Such a process has the claimed inputs and the connection of its parent. It would settle the input that its
parent runs, and go on claiming as if it were the container.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn


class _ForkState:
    """Whether this process was forked by user code; `disarm` removes our signal handlers there."""

    __slots__ = ("disarm", "is_child", "is_watched")

    def __init__(self) -> None:
        self.is_child = False
        self.is_watched = False
        self.disarm: Callable[[], object] | None = None


here = _ForkState()


def watch(disarm: Callable[[], object] | None = None) -> None:
    """Take every fork of this process from now on for user code's; call it before user code runs."""
    here.is_child = False
    here.disarm = disarm
    if not here.is_watched:  # containers inherit the hook of their template
        here.is_watched = True
        os.register_at_fork(after_in_child=_forked)


def is_child() -> bool:
    """Whether user code has forked this process, whose connections are the parent's."""
    return here.is_child


def _forked() -> None:
    here.is_child = True
    if here.disarm is not None:
        here.disarm()


def end_if_child(error: BaseException | None = None) -> None:
    """End this process if user code has forked it; called wherever user code has returned or raised."""
    if here.is_child:
        _end(error)


def _end(error: BaseException | None) -> NoReturn:
    """Exit as a Python program with that error does, even if user code fails while the error is printed."""
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
