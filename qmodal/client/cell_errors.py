"""Errors in cells: their tracebacks are shown without our frames."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Any

from qmodal.client.notebook import shell
from qmodal.client.process import state
from qmodal.wire.remote_error import is_remote, said_once

_OURS = f"{Path(__file__).parent.parent}{os.sep}"
# What our code calls on the way to where something is raised.
_LIBRARIES = tuple(
    f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "purelib", "platlib")
)


def hide_frames() -> None:
    """Have the shell of this process leave our frames out of the tracebacks that it shows, but not of those it keeps.

    Its debugger, and whoever sets QMODAL_TRACEBACK, see all of them.
    """
    formatter: Any = getattr(shell(), "InteractiveTB", None)
    known = getattr(formatter, "structured_traceback", None)
    if known is None or getattr(known, "hides", None) is without_ours:
        return

    @wraps(known)
    def structured_traceback(
        kind: Any, error: Any, trace: TracebackType | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        if _wants_everything() or not isinstance(trace, TracebackType):
            return known(kind, error, trace, *args, **kwargs)
        with _cut_causes(error), _said_once(error):
            return known(kind, error, without_ours(trace) or trace, *args, **kwargs)

    vars(structured_traceback)["hides"] = without_ours
    formatter.structured_traceback = structured_traceback


@contextmanager
def _said_once(error: Any) -> Iterator[None]:
    """During the block its note has no remote traceback, if that stands below the cell, where its container printed it."""
    notes = getattr(error, "__notes__", None)
    if type(notes) is not list or not any(map(is_remote, notes)):
        yield
        return
    for act in state.before_errors:
        act()
    whole = [*notes]
    notes[:] = [said_once(note, state.shown) for note in whole]
    try:
        yield
    finally:
        notes[:] = whole


def without_ours(trace: TracebackType) -> TracebackType | None:
    """The traceback without our frames, and those of libraries that these have called; None if nothing is left."""
    kept: list[TracebackType] = []
    is_below_ours = False
    for each in _entries(trace):
        name = each.tb_frame.f_code.co_filename
        if name.startswith(_OURS):
            is_below_ours = True
        elif not (is_below_ours and name.startswith(_LIBRARIES)):
            is_below_ours = False
            kept.append(each)
    shown: TracebackType | None = None
    for each in reversed(kept):
        shown = TracebackType(shown, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return shown


def _entries(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


@contextmanager
def _cut_causes(error: BaseException) -> Iterator[None]:
    """During the block, the exceptions that this one comes from have no frames of ours.

    One that we had handled, when this one interrupted us, is not spoken of at all.
    """
    with ExitStack() as stack:
        seen = {id(error)}
        while (earlier := _earlier(error)) is not None and id(earlier) not in seen:
            seen.add(id(earlier))
            trace = earlier.__traceback__
            kept = None if trace is None else without_ours(trace)
            if kept is None and error.__cause__ is None:
                stack.callback(setattr, error, "__suppress_context__", error.__suppress_context__)
                error.__suppress_context__ = True
                break
            stack.callback(setattr, earlier, "__traceback__", trace)
            earlier.__traceback__ = kept
            error = earlier
        yield


def _earlier(error: BaseException) -> BaseException | None:
    if error.__cause__ is not None or error.__suppress_context__:
        return error.__cause__
    return error.__context__


def _wants_everything() -> bool:
    return os.environ.get("QMODAL_TRACEBACK", "").lower() not in ("", "0", "false")
