"""The memory of each process that runs for one container: `python -m benchmarks.memory`; Linux only.

PSS counts a page that several processes share in parts; USS is what would come free if that process ended.
Bytecode that is not there is compiled, and what that takes stays: run it twice, without
PYTHONDONTWRITEBYTECODE.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import qmodal
from benchmarks.processes import Row, descendants, rows

# Until imports and first connections are over.
SETTLE_SECONDS = 3.0
app = qmodal.App("memory")


@app.function()
def whoami() -> int:
    """The pid of the container."""
    return os.getpid()


def _show(title: str, found: Sequence[Row]) -> None:
    print(f"\n{title:24}    PSS    USS  MiB")
    for row in found:
        print(f"  {row.role:22} {row.pss:6.1f} {row.uss:6.1f}")
    ours = [row for row in found if row.role != "server"]
    print(f"  {'all but the server':22} {sum(row.pss for row in ours):6.1f}", flush=True)


def main() -> None:
    """Print the table of a fresh `qmodal up`, without a container and with one."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["QMODAL_HOME"] = home
        command = [sys.executable, "-P", "-m", "qmodal", "up"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as up:
            try:
                assert up.stdout is not None
                up.stdout.readline()  # it is up
                time.sleep(SETTLE_SECONDS)
                _show("without containers", rows([up.pid, *descendants(up.pid)]))
                with app.run():
                    container = [whoami.remote() for _ in range(20)][-1]
                    time.sleep(SETTLE_SECONDS)
                    _show("one container", rows([up.pid, *descendants(up.pid)], container))
            finally:
                up.terminate()


if __name__ == "__main__":
    main()
