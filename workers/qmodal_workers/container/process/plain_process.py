"""Gives user code the surroundings of a plain Python process: undoes what our own programs have set."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType


def begin() -> None:
    """Undo what the worker's program has set in this process; call it before user code is imported.

    Later it would undo what user code has set: the handler of a signal, a path, the program's name.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if not sys.flags.safe_path and sys.path[:1] and sys.path[0] in _own_folders():
        del sys.path[0]
    # As in an interactive interpreter. Children of `multiprocessing` would import our main module.
    sys.argv[:] = [""]
    sys.modules["__main__"] = ModuleType("__main__")


def _own_folders() -> set[str]:
    """Where Python, without `-P`, has looked for the modules of the worker's program."""
    return {"", str(Path.cwd()), str(Path(sys.argv[0]).resolve().parent)}


def end() -> None:
    """Do what Python does at the end of a program: wait for threads, run the functions of `atexit`.

    The interpreter itself is not finalized, because frames of ours are still on its stack.
    """
    # Undocumented; multiprocessing ends its children with it. Looked up only now, because libraries that
    # replace threads replace it, too.
    vars(threading)["_shutdown"]()
    atexit._run_exitfuncs()


def set_variables(environ: Mapping[str, str]) -> None:
    """Set variables of the environment; a new `TZ` is read by the clock, too."""
    os.environ.update(environ)
    if "TZ" in environ:
        time.tzset()
