"""Where this code runs: in a container or not, and for which input."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar

from qmodal.client.process import state
from qmodal.wire.ids import input_id

_input: ContextVar[tuple[str, int] | None] = ContextVar("qmodal_input", default=None)


def is_local() -> bool:
    """False in the process that serves inputs, also while it imports; True in its child processes.

    >>> if qmodal.is_local():
    ...     print("on the caller's machine")
    """
    if state.eager is not None and _input.get() is not None:
        return False  # an input of eager mode, which runs it in this process
    return os.getpid() not in (state.serving_pid, state.importing_pid)


def current_input_id() -> str | None:
    """The id (`in-...`) of the input that runs here, None outside of one.

    >>> print("working on", qmodal.current_input_id())
    """
    found = _input.get()
    return None if found is None else input_id(*found)


def current_function_call_id() -> str | None:
    """The id (`fc-...`) of the call whose input runs here, None outside of one.

    >>> FunctionCall.from_id(qmodal.current_function_call_id())
    """
    found = _input.get()
    return None if found is None else found[0]


# `current_input()`: the call and the index of the input that runs here, None outside of one.
current_input = _input.get
# `enter((call, index))`: from here on this thread works on that input.
enter = _input.set


def leave_input() -> None:
    """No input runs in this thread any more."""
    _input.set(None)


def watcher(variables: Context) -> Callable[[], bool] | None:
    """A function that says whether one of these variables has another value here and now.

    The input's own does not count; None if no other one is set.
    """
    known = [each for each in variables.items() if each[0] is not _input]
    if len(known) == 1:  # the usual number, which needs no loop
        [(only, before)] = known
        return lambda: only.get(None) is not before
    if known:
        return lambda: any(variable.get(None) is not value for variable, value in known)
    return None


def serve() -> None:
    """This process serves inputs from now on."""
    state.serving_pid = os.getpid()


def is_importing() -> bool:
    """Whether user code is being imported by the command line or for a container."""
    return state.is_importing


@contextmanager
def importing(*, for_container: bool = False) -> Iterator[None]:
    """Within the block user code is imported, so no app starts: it would start again in every container.

    `for_container`: this process is the template of containers, or one of them, and modules find themselves there.
    """
    before = state.is_importing, state.importing_pid
    state.is_importing = True
    state.importing_pid = os.getpid() if for_container else 0
    try:
        yield
    finally:
        state.is_importing, state.importing_pid = before
