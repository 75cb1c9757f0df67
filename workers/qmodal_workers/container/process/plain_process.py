"""What user code finds as in any Python process: undone is what our own programs have set for themselves."""

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
    """Leave nothing of the worker's program in this process; before user code is imported.

    Later it would undo what user code has set: the handler of a signal, a path, the program's name.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if not sys.flags.safe_path and sys.path[:1] and sys.path[0] in _own_folders():
        del sys.path[0]
    # As in an interactive interpreter. Children of `multiprocessing` import what is the main module.
    sys.argv[:] = [""]
    sys.modules["__main__"] = ModuleType("__main__")


def _own_folders() -> set[str]:
    """Where Python, without `-P`, has looked for the modules of the worker's program."""
    return {"", str(Path.cwd()), str(Path(sys.argv[0]).resolve().parent)}


def end() -> None:
    """What Python does at the end of a program: wait for its threads, run what `atexit` was told.

    The interpreter itself is not taken down: there would be the frames of our own below it.
    """
    # As multiprocessing ends its children; it is not among the documented names. Looked up now, as
    # who replaces threads replaces it, too.
    vars(threading)["_shutdown"]()
    atexit._run_exitfuncs()


def set_variables(environ: Mapping[str, str]) -> None:
    """Set variables of the environment, also for the clock, which has read its own already."""
    os.environ.update(environ)
    if "TZ" in environ:
        time.tzset()
