"""Classes with `snap=True` hooks; run by tests/integration/worker/test_snapshots.py."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import qmodal

app = qmodal.App("snapshots")
SNAP: Any = {"enable_memory_snapshot": True, "scaledown_window": 2}


def memory() -> dict[str, int]:
    """KiB of this process by kind."""
    found = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, value, _ = line.split()
        found[name.rstrip(":")] = int(value)
    return found


@app.cls(**SNAP)
class Large:
    @qmodal.enter(snap=True)
    def load(self) -> None:
        self.content = os.urandom(1024) * (50 * 1024)
        self.loaded_by = os.getpid()

    @qmodal.enter()
    def begin(self) -> None:
        self.entered_by = os.getpid()

    @qmodal.method()
    def look(self, folder: str, count: int) -> dict[str, int]:
        """Once so many containers are at it, each with a file there."""
        total = sum(self.content[::4096])
        Path(folder, str(os.getpid())).touch()
        while len(list(Path(folder).iterdir())) < count:
            time.sleep(0.01)
        found = memory()
        return {
            "pid": os.getpid(),
            "loaded_by": self.loaded_by,
            "entered_by": self.entered_by,
            "total": total,
            "rss": found["Rss"],
            "pss": found["Pss"],
            "private": found["Private_Dirty"] + found["Private_Clean"],
        }


class Base:
    seen: list[str]

    @qmodal.enter(snap=True)
    def base_snap(self) -> None:
        self.seen = ["base snap"]
        self.log = ""

    @qmodal.enter(snap=True)
    async def async_snap(self) -> None:
        self.seen.append("async snap")

    @qmodal.enter()
    def base_enter(self) -> None:
        self.seen.append("base enter")

    @qmodal.enter()
    async def async_enter(self) -> None:
        self.seen.append("async enter")

    @qmodal.exit()
    def base_exit(self) -> None:
        self._write("base exit")

    @qmodal.exit()
    async def async_exit(self) -> None:
        self._write("async exit")

    def _write(self, text: str) -> None:
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(f"{text}\n")


@app.cls(**SNAP)
class Derived(Base):
    @qmodal.enter(snap=True)
    def own_snap(self) -> None:
        self.seen.append("own snap")

    @qmodal.enter()
    def own_enter(self) -> None:
        self.seen.append("own enter")

    @qmodal.method()
    def hooks(self) -> list[str]:
        return self.seen

    @qmodal.method()
    def report_to(self, path: str) -> int:
        self.log = path
        return os.getpid()


@app.cls(**SNAP)
class Threaded:
    @qmodal.enter(snap=True)
    def load(self) -> None:
        self.loaded_by = os.getpid()
        threading.Thread(target=threading.Event().wait, daemon=True, name="ticker").start()

    @qmodal.method()
    def look(self) -> dict[str, int]:
        return {"pid": os.getpid(), "loaded_by": self.loaded_by}


@app.cls(**SNAP)
class Sized:
    size: int = qmodal.parameter()

    @qmodal.enter(snap=True)
    def load(self) -> None:
        self.loaded_by = os.getpid()
        self.content = "x" * self.size

    @qmodal.method()
    def look(self) -> dict[str, int]:
        return {"length": len(self.content), "loaded_by": self.loaded_by}

    @qmodal.method()
    def through(self) -> Any:
        sibling: Any = self.look
        return sibling.remote()["length"]


@app.cls(**SNAP)
class Failing:
    @qmodal.enter(snap=True)
    def load(self) -> None:
        raise ValueError("no model today")

    @qmodal.method()
    def look(self) -> None:
        return None


@app.cls(**SNAP)
class Dying:
    @qmodal.enter(snap=True)
    def load(self) -> None:
        os._exit(3)

    @qmodal.method()
    def look(self) -> None:
        return None
