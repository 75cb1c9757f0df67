"""Functions that raise what should end a process, read variables, or are declared for the web."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qmodal as modal

RAISED: dict[str, Callable[[], BaseException]] = {
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": lambda: GeneratorExit("stop"),
    "CancelledError": lambda: asyncio.CancelledError("gone"),
    "BaseException": lambda: BaseException("base"),
    "StopIteration": lambda: StopIteration("end"),
    "InputCancellation": modal.exception.InputCancellation,
    "MemoryError": lambda: MemoryError("full"),
    "RecursionError": lambda: RecursionError("deep"),
}
app = modal.App("surface", secrets=[modal.Secret.from_dict({"WHO": "app", "APP": "app"})])
image = modal.Image.debian_slim().pip_install("torch").env({"MODE": "fast"})
incomplete = modal.Image.debian_slim()
with incomplete.imports():
    importlib.import_module("no_such_module_anywhere")


@app.function(image=incomplete)
def needy() -> None: ...


@app.function()
def raising(name: str) -> None:
    raise RAISED[name]()


@app.function()
async def raising_async(name: str) -> None:
    await asyncio.sleep(0)
    raise RAISED[name]()


@app.function(max_containers=1)
def square(x: int) -> int:
    return x * x


@app.function(max_containers=1)
def here_or_raise(name: str) -> int:
    if name:
        raise RAISED[name]()
    return os.getpid()


@app.function(
    image=image,
    secrets=[modal.Secret.from_dict({"WHO": "function", "PART": "function"})],
    env={"PART": "env"},
    volumes={"/data": modal.Volume.from_name("data")},
    region="us-east",
    schedule=modal.Period(days=1),
)
def variables() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in ("WHO", "APP", "PART", "MODE")}


@app.function()
@modal.fastapi_endpoint()
def answer(name: str) -> str:
    return name


@app.cls()
class Site:
    @modal.method()
    def add(self, x: int) -> int:
        return x + 1

    @modal.wsgi_app()
    def serve(self) -> Any:
        return lambda _environ, start: start("204 No Content", []) and []


@app.function()
@modal.clustered(size=2)
def ranks() -> None: ...


@app.function()
def preempted(path: str, *, seconds: float = 20) -> str:
    return _interrupted_once(path, lambda: time.sleep(seconds))


@app.function()
async def preempted_async(path: str) -> str:
    if _is_first(path):
        modal.exception.simulate_preemption(0.05)
        await asyncio.sleep(20)
    return "elsewhere"


def _is_first(path: str) -> bool:
    is_first = not Path(path).exists()
    Path(path).touch()
    return is_first


def _interrupted_once(path: str, wait: Callable[[], None]) -> str:
    seen = Path(path)
    if not seen.exists():
        seen.touch()
        modal.exception.simulate_preemption(0.05)
        try:
            wait()
        except KeyboardInterrupt:
            seen.write_text("interrupted")
            raise
    return seen.read_text()


@app.cls()
class Leaving:
    path: str = modal.parameter()

    @modal.enter()
    def load(self) -> None:
        signal.getsignal(signal.SIGINT)

    @modal.method()
    def stop(self) -> str:
        """Is interrupted once; then it waits for what the first container leaves."""
        if _is_first(f"{self.path}.began"):
            modal.exception.simulate_preemption(0.05)
            time.sleep(20)
        while not Path(self.path).exists():
            time.sleep(0.01)
        return Path(self.path).read_text()

    @modal.exit()
    def leave(self) -> None:
        Path(self.path).write_text("left")
