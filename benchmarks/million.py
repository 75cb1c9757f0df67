"""The memory of a producer and its server during a map over a million inputs that do nothing.

`python -m benchmarks.million [inputs]`; needs a POSIX system, as the private server does.
"""

from __future__ import annotations

import os
import sys
import time

import psutil

import qmodal
from qmodal.client import client as clients
from qmodal.transport.operation import ask_one

LINES = 10
app = qmodal.App("million")


@app.function()
def nothing(x: int) -> int:
    return x


def memory() -> str:
    """Resident MiB of this process and of the server, and what the server's data take."""
    client = clients.current()
    told = client.run(ask_one(b"INFO")).decode()
    about = dict(line.split(":", 1) for line in told.splitlines() if ":" in line)
    resident = psutil.Process(os.getpid()).memory_info().rss
    sizes = (resident, int(about["used_memory_rss"]), int(about["used_memory"]))
    producer, server, held = (size / 2**20 for size in sizes)
    return f"producer {producer:6.1f} MiB, server {server:6.1f} MiB, its data {held:6.1f} MiB"


def main(count: int) -> None:
    """Print a line for each tenth of the map."""
    with app.run():
        nothing.remote(0)
        print(f"{0:>9} inputs   0.0 s  {memory()}", flush=True)
        began = time.monotonic()
        for n, result in enumerate(nothing.map(iter(range(count))), 1):
            assert result == n - 1
            if n % (count // LINES) == 0:
                print(f"{n:>9} inputs {time.monotonic() - began:5.1f} s  {memory()}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
