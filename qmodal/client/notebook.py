"""Notebooks: whether this process runs cells, what code in them may do, and what is done before and after each.

Cells are run by IPython, which is never imported here: in a process that runs cells it is there.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE
from types import FrameType
from typing import Any

from qmodal.client.process import state

_ASYNC = CO_COROUTINE | CO_ASYNC_GENERATOR
_RUNNERS = frozenset({"IPython", "ipykernel"})


def shell() -> Any:
    """The IPython shell of this process; None where there is none."""
    find = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return None if find is None else find()


def is_notebook() -> bool:
    """Whether the cells are those of a notebook, or of something else that shows what a kernel sends."""
    return getattr(shell(), "kernel", None) is not None


def is_cell() -> bool:
    """Whether the caller is a cell, or plain code that a cell has called.

    It may block its kernel's loop: that waits for each cell. A coroutine of the user's may not.
    """
    if "IPython" not in sys.modules:
        return False
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not frame.f_code.co_flags & _ASYNC:
        frame = frame.f_back
    if frame is None:
        return False
    # A cell with an `await` in it is itself a coroutine, which the runner of cells awaits.
    return _is_runner(frame) or _is_runner(frame.f_back)


def _is_runner(frame: FrameType | None) -> bool:
    if frame is None:
        return False
    name: str = frame.f_globals.get("__name__", "")
    return name.partition(".")[0] in _RUNNERS


def source_of(filename: str) -> tuple[str, list[str]] | None:
    """The label (`Cell In[3]`) and the lines of the cell that code with that file name was typed into."""
    compiler = getattr(shell(), "compile", None)
    describe = getattr(compiler, "format_code_name", None)
    found = None if describe is None else describe(filename)
    if found is None:
        return None
    # Run again without a change, a cell keeps its first label, and so its functions are what they were.
    label = state.cell_labels.setdefault(filename, " ".join(found))
    return label, linecache.getlines(filename)


@contextmanager
def around_cells(
    before: Callable[[], None], after: Callable[[], None], before_error: Callable[[], None]
) -> Iterator[None]:
    """During the block, have these called before and behind each cell, and before a remote error is shown.

    Without cells, nothing is.
    """
    events = getattr(shell(), "events", None)
    if events is None:
        yield
        return
    # IPython looks at what its callbacks take.
    hooks = {"pre_run_cell": lambda *_: before(), "post_run_cell": lambda *_: after()}
    for name, hook in hooks.items():
        events.register(name, hook)
    state.before_errors.append(before_error)
    try:
        yield
    finally:
        state.before_errors.remove(before_error)
        for name, hook in hooks.items():
            events.unregister(name, hook)
