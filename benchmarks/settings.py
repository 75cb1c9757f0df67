"""What a subject's processes are told: the runner writes these variables, everybody reads them here.

A subject's own worker processes import its module too, so this must work in any environment:
the standard library only.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

URL = os.environ.get("BENCHMARK_URL", "redis://127.0.0.1:6379/0")
WORKLOAD = os.environ.get("BENCHMARK_WORKLOAD", "")
# Worker processes (or containers).
WORKERS = int(os.environ.get("BENCHMARK_WORKERS", "1"))
# Whether each of them may run as many inputs at once as does it good, and not only one.
AT_ITS_BEST = os.environ.get("BENCHMARK_BEST", "") == "1"
# Whether a subject that has to choose should prefer answering soon to doing much.
FOR_LATENCY = os.environ.get("BENCHMARK_LATENCY", "") == "1"


_parts = urlsplit(URL)
HOST = _parts.hostname or "127.0.0.1"
PORT = _parts.port or 6379
# The path of a Unix socket, else "".
SOCKET = _parts.path if _parts.scheme == "unix" else ""


def program(name: str) -> tuple[str, str]:
    """How to run a command that was installed beside this interpreter."""
    return sys.executable, str(Path(sys.executable).parent / name)
