"""State of this process, all of it: its clients, what it serves and imports, what output it shows.

It lies here, untyped where the type is of a room above, and is read and changed through the functions of those
who know what it means: `client.current`, `context.is_local`, `definition.serve`, `output.enable_output`. Here is
also what a forked child makes of it, what happens when the process ends, and how a test leaves it as it was.
Beside it there are only variables of a context (which input runs here), and of the rooms below, tables that
say nothing of what the process does.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol


class Connected(Protocol):
    """A client, as far as the ends of processes concern it."""

    def finish(self) -> None:
        """The process ends."""
        ...

    def after_fork(self) -> None:
        """This is the child of a fork, and what the client has is its parent's."""
        ...


@dataclass(slots=True)
class ProcessState:
    """What there is once in a process.

    `serving_pid` and `importing_pid` name the process that they hold for: a child that was forked from it neither
    serves nor imports for a container.
    """

    client: Any = None  # the Client of the plain verbs; made on first use, under `making`
    eager: Any = None  # the EagerApps of `qmodal.testing`, while its eager mode is on
    # The contexts of `app.run()` that were entered, by their ids: one whose value is dropped goes on until it is left.
    runs: dict[int, Any] = field(default_factory=dict)
    serving_pid: int = 0
    importing_pid: int = 0
    is_importing: bool = False
    served: dict[str, Any] = field(
        default_factory=dict
    )  # the Definitions of what a container serves, by tag
    output_style: Any = None  # a Style while apps show what their containers print
    shown: str = ""  # the end of what was shown of that
    # In a notebook: the labels of its cells by the file names of their code, and what is done before an error is shown.
    cell_labels: dict[str, str] = field(default_factory=dict)
    before_errors: list[Callable[[], None]] = field(default_factory=list)


state = ProcessState()
making = threading.Lock()
_clients: weakref.WeakSet[Connected] = weakref.WeakSet()


def add(client: Connected) -> None:
    """From now on it is told of forks and of the end of the process, for as long as it lives."""
    _clients.add(client)


def count_clients() -> int:
    """How many clients there are."""
    return len(_clients)


@contextmanager
def preserved() -> Iterator[None]:
    """Whatever the block changes about the state of the process, it is afterwards what it was before."""
    before = replace(
        state,
        served=dict(state.served),
        cell_labels=dict(state.cell_labels),
        before_errors=list(state.before_errors),
    )
    try:
        yield
    finally:
        for name in ProcessState.__slots__:
            setattr(state, name, getattr(before, name))


def _finish() -> None:
    for client in list(_clients):
        with contextlib.suppress(Exception):  # nobody is left to be told
            client.finish()


def _finish_with_multiprocessing(*_: object) -> None:
    """Its children run no `atexit` handlers, before Python 3.13 at least."""
    util = sys.modules.get("multiprocessing.util")
    process = sys.modules.get("multiprocessing.process")
    if util is not None and process is not None and process.parent_process() is not None:
        util.Finalize(None, _finish, exitpriority=0)


def _after_fork() -> None:
    """All that the child of a fork must do about this state.

    Beside it, ids draw a new prefix (`wire.ids`) and stacks let go of their pipes (`embedded.stack`), whether
    there is a client or not.
    """
    global making
    making = threading.Lock()  # another thread may have held it
    for client in list(_clients):
        client.after_fork()
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        # What a child of multiprocessing does first is to drop what its parent has registered.
        util.register_after_fork(_after_fork, _finish_with_multiprocessing)


# A loop imports it for its executor, when it first looks up a name. That fails where the first call is made
# by a thread after the main thread has ended: it registers what is to be done at the end of that.
importlib.import_module("concurrent.futures.thread")
# Once for the process, whatever it makes: a registration for each loop or map would be kept for ever.
atexit.register(_finish)
os.register_at_fork(after_in_child=_after_fork)
_finish_with_multiprocessing()
