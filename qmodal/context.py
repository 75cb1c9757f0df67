"""Where this code runs: in a container or not, and for which input."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from qmodal.wire.ids import input_id

_input: ContextVar[tuple[str, int] | None] = ContextVar("qmodal_input", default=None)
_serving_pid: int | None = None
_importing = False
_for_container = False


def is_local() -> bool:
    """Whether this process is none that serves inputs; its child processes are local again.

    >>> if qmodal.is_local():
    ...     print("on the caller's machine")
    """
    return _serving_pid != os.getpid()


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


def enter_input(call: str, index: int) -> None:
    """From here on this thread works on that input."""
    _input.set((call, index))


def leave_input() -> None:
    """No input runs in this thread any more."""
    _input.set(None)


def serve() -> None:
    """This process serves inputs from now on."""
    global _serving_pid
    _serving_pid = os.getpid()


def is_importing() -> bool:
    """Whether user code is being imported by the command line or for a container."""
    return _importing


def is_remote() -> bool:
    """Whether this process serves inputs, or imports user code in order to."""
    return _for_container or not is_local()


@contextmanager
def importing(*, for_container: bool = False) -> Iterator[None]:
    """While user code is imported, starting an app would start it again in every container."""
    global _importing, _for_container
    before = _importing, _for_container
    _importing, _for_container = True, for_container
    try:
        yield
    finally:
        _importing, _for_container = before
