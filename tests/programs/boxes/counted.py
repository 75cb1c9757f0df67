"""Functions whose inputs end in every way, for tests of what is counted."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import qmodal

app = qmodal.App("counted")


@app.function()
def square(x: int) -> int:
    return x * x


@app.function(retries=2)
def flaky(folder: str) -> str:
    """Fails twice, then returns."""
    mark = Path(folder) / str(time.time_ns())
    mark.touch()
    if len(list(Path(folder).iterdir())) < 3:
        raise ValueError("not yet")
    return "at last"


@app.function()
def fails(x: int) -> None:
    raise ValueError(x)


@app.function(timeout=1)
def slow(seconds: float) -> None:
    time.sleep(seconds)


@app.function()
def deadly(folder: str) -> int:
    """Kills its container the first time."""
    mark = Path(folder) / "died"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


@app.function(max_containers=1)
def pid(seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return os.getpid()


@app.function(max_containers=1)
@qmodal.concurrent(max_inputs=8)
async def together(x: int) -> int:
    return x + 1


@app.cls()
class Broken:
    """Ends its containers before they are ready."""

    @qmodal.enter()
    def prepare(self) -> None:
        os._exit(3)

    @qmodal.method()
    def read(self) -> None:
        pass


@app.cls()
class Shelf:
    """Has a pool for each name and size."""

    name: str = qmodal.parameter()
    size: int = qmodal.parameter()

    @qmodal.method()
    def read(self) -> None:
        time.sleep(60)
