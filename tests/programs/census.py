"""What a process has apart from its code: `look()`, or `python census.py` for a plain one.

It is also the app's own module of a test: what it finds at import, and in a call, is compared with
what it finds when it is run as a program.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import json
import locale
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

STREAMS = ("stdin", "stdout", "stderr")
HOOKS = ("excepthook", "unraisablehook", "displayhook", "breakpointhook")
STATUS = ("SigBlk", "SigIgn", "NoNewPrivs", "CapEff")


def look() -> dict[str, Any]:
    """All facets by name, as plain values."""
    descriptors = _descriptors()  # first of all: before anything here opens one
    found = {
        **AT_IMPORT,
        **_signals(),
        **_limits(),
        **_interpreter(),
        **_hooks(),
        **_streams(),
        "descriptors": len(descriptors),
        "descriptors that programs inherit": [each for each in descriptors if _is_inherited(each)],
    }
    known: dict[str, Any] = json.loads(json.dumps(found, default=repr))
    return known


def _descriptors() -> list[int]:
    """Those that were open before this looked."""
    found = [int(path.name) for path in Path("/proc/self/fd").iterdir()]
    return sorted(each for each in found if _is_open(each))


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _is_inherited(fd: int) -> bool:
    return fd > 2 and os.get_inheritable(fd)


def _signals() -> dict[str, Any]:
    numbers = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":\t") for line in lines if ":\t" in line)
    return {
        **{getattr(each, "name", f"signal {each}"): signal.getsignal(each) for each in numbers},
        **{name: status.get(name) for name in STATUS},
        "timers": [signal.getitimer(each) for each in range(3)],
    }


def _limits() -> dict[str, Any]:
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    mask = os.umask(0)
    os.umask(mask)
    return {
        **{name: resource.getrlimit(getattr(resource, name)) for name in names},
        "umask": oct(mask),
        "working directory": str(Path.cwd()),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "processors": sorted(os.sched_getaffinity(0)),
        "scheduler": os.sched_getscheduler(0),
        "out of memory": Path("/proc/self/oom_score_adj").read_text(),
        "core dumps": Path("/proc/self/coredump_filter").read_text(),
        "leads its session": os.getsid(0) == os.getpid(),
    }


def _interpreter() -> dict[str, Any]:
    is_main = threading.current_thread() is threading.main_thread()
    return {
        "threads": sorted(each.name for each in threading.enumerate()),
        "stack of a thread": threading.stack_size(),
        "in the main thread": is_main,
        "locale": [locale.setlocale(each) for each in (locale.LC_CTYPE, locale.LC_NUMERIC)],
        "encodings": [locale.getpreferredencoding(False), sys.getfilesystemencoding()],
        "time zone": [time.tzname, time.timezone],
        "flags": [str(sys.flags).replace("safe_path=True", "safe_path=False"), sys._xoptions],
        "safe_path": sys.flags.safe_path,
        "recursion": sys.getrecursionlimit(),
        "switches": sys.getswitchinterval(),
        "collector": [gc.isenabled(), gc.get_threshold(), gc.get_debug()],
        "frozen objects": gc.get_freeze_count(),
        "arguments": sys.argv[1:],
        "program": sys.argv[0],
        "main module": getattr(sys.modules["__main__"], "__file__", None),
        "modules of the worker's program": sorted(
            {"click", "qmodal.cli", "qmodal.embedded.supervisor.crew"} & set(sys.modules)
        ),
        "paths": [path for path in sys.path if path != str(Path(__file__).parent)],
        "first path": sys.path[0] == str(Path(__file__).parent),
        "executable": sys.executable,
        "bytecode": [sys.dont_write_bytecode, sys.pycache_prefix],
        "seconds of sockets": socket.getdefaulttimeout(),
        "temporary files": tempfile.gettempdir(),
        "multiprocessing": [multiprocessing.parent_process(), multiprocessing.active_children()],
    }


def _hooks() -> dict[str, Any]:
    root = logging.getLogger()
    return {
        **{name: getattr(sys, name) is getattr(sys, f"__{name}__") for name in HOOKS},
        "threading.excepthook": threading.excepthook is threading.__excepthook__,
        "tracing": [sys.gettrace(), sys.getprofile(), threading.gettrace()],
        "generators of asyncio": list(sys.get_asyncgen_hooks()),
        "importers": [[type(each).__name__ for each in sys.meta_path], len(sys.path_hooks)],
        "handlers of the collector": gc.callbacks,
        "functions at exit": atexit._ncallbacks(),
        "faulthandler": faulthandler.is_enabled(),
        "descriptor of wake-ups": signal.set_wakeup_fd(-1),
        "warnings": warnings.filters,
        "showwarning": warnings.showwarning.__module__,
        "logging": [root.handlers, root.level, root.manager.disable, logging.raiseExceptions],
    }


def _streams() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in STREAMS:
        stream = getattr(sys, name)
        found |= {
            f"{name}: kind": [type(stream).__name__, type(stream.buffer).__name__],
            f"{name}: name": [stream.name, stream.mode, stream.fileno(), stream.isatty()],
            f"{name}: is the first one": stream is getattr(sys, f"__{name}__"),
            f"{name}: buffering": [stream.line_buffering, stream.write_through],
            f"{name}: text": [stream.encoding, stream.errors, stream.newlines],
        }
    return found


AT_IMPORT = {f"{name} at import": value for name, value in _signals().items()}
# As a program does that wants to end in its own way.
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)


if __name__ == "__main__":
    print(json.dumps(look()))
