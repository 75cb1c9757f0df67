"""A program as Modal's users write them: serialized functions, handles as arguments, classes."""

from __future__ import annotations

import os
import sys
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import qmodal as modal

app = modal.App("conformance")
WHILE_IMPORTING = (modal.is_local(), os.environ.get("MODAL_IS_REMOTE"), modal.current_input_id())


@app.function()
def where() -> dict[str, Any]:
    names = ("MODAL_TASK_ID", "MODAL_ENVIRONMENT", "MODAL_REGION", "MODAL_CLOUD_PROVIDER")
    found = {name: os.environ.get(name) for name in names}
    return {"importing": WHILE_IMPORTING, "local": modal.is_local(), **found}


@app.function(env={"MODAL_TASK_ID": "mine", "MODAL_IS_REMOTE": "0"})
def own_variables() -> tuple[str | None, str | None]:
    return os.environ.get("MODAL_TASK_ID"), os.environ.get("MODAL_IS_REMOTE")


@app.function()
def by_name(app_name: str, name: str) -> Any:
    return modal.Function.from_name(app_name, name).remote()


@app.function()
@modal.concurrent(max_inputs=20)
def countdown(n: int) -> int:
    return n and countdown.remote(n - 1)


@app.function()
@modal.batched(max_batch_size=4, wait_ms=50)
async def joined(left: list[str], right: list[str]) -> list[str]:
    return [a + b for a, b in zip(left, right, strict=True)]


@app.function()
@modal.batched(max_batch_size=4, wait_ms=50)
def wrong(result: list[Any]) -> Any:
    return result[0]


@app.cls()
class Doubler:
    by: int = modal.parameter(default=2)

    @modal.batched(max_batch_size=4, wait_ms=50)
    def double(self, x: list[int]) -> list[int]:
        return [each * self.by for each in x]


@app.cls()
class Model:
    size: int = modal.parameter(default=1)

    @modal.method()
    def area(self) -> int:
        return self.size * self.size


@app.function()
def area_of(model: Any, **parameters: Any) -> Any:
    return (model(**parameters) if parameters else model).area.remote()


@app.function()
def the_class() -> Any:
    return Model


def _serialized() -> tuple[Any, Any]:
    offset = 5

    @app.function(serialized=True, name="shifted")
    def shifted(x: int) -> int:
        return x + offset

    @app.function(serialized=True, name="twice")
    def twice(x: int) -> int:
        return shifted.remote(shifted.remote(x))

    @app.cls(serialized=True)
    class Shift:
        by: int = modal.parameter()
        label: str = modal.parameter(default="")
        state: str = modal.parameter(init=False)

        @modal.method()
        def shift(self, x: int) -> int:
            return x + self.by + offset

        @modal.method()
        def again(self, x: int) -> int:
            return self.shift.remote(twice.remote(x))

        @modal.method()
        def handle(self) -> Any:
            return twice

        @modal.method()
        def unset(self) -> tuple[str, bool]:
            return self.label, hasattr(self, "state")

    return twice, Shift


twice, Shift = _serialized()


@app.cls()
class Long:
    @modal.method()
    def run(self, path: str) -> str:
        """Runs until somebody else has begun to run it, too."""
        begun = Path(path)
        with begun.open("a") as file:
            file.write(f"{os.environ['MODAL_TASK_ID']}\n")
        while len(begun.read_text().splitlines()) < 2:
            time.sleep(0.01)
        return os.environ["MODAL_TASK_ID"]

    @modal.exit()
    def leave(self) -> None:
        print("left in peace")


IMPORTED, ENTERED, AWAITED = (ContextVar(name, default="unset") for name in ("i", "e", "a"))
IMPORTED.set("imported")


def variables(x: int) -> list[str]:
    """What is set when an input begins, which then sets all of it."""
    found = [variable.get() for variable in (IMPORTED, ENTERED, AWAITED)]
    for variable in (IMPORTED, ENTERED, AWAITED):
        variable.set(f"by {x}")
    return found


@app.cls(max_containers=1)
class Contexts:
    @modal.enter()
    def enter(self) -> None:
        ENTERED.set("entered")

    @modal.enter()
    async def enter_aio(self) -> None:
        AWAITED.set("awaited")

    @modal.method()
    def plain(self, x: int) -> list[str]:
        return variables(x)

    @modal.method()
    async def coroutine(self, x: int) -> list[str]:
        return variables(x)

    @modal.method()
    def awaitable(self, x: int) -> Any:
        """As a decorator's wrapper is: what it sets is there for the coroutine."""
        before = variables(x)

        async def end() -> Any:
            return before if IMPORTED.get() == f"by {x}" else IMPORTED.get()

        return Later(end)


class Later:
    """An awaitable that is neither a coroutine nor a future."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def __await__(self) -> Any:
        return self.make().__await__()


@app.function(max_containers=1)
def prints(text: str) -> None:
    print(f"out {text}\nand more")
    print(f"err {text}", file=sys.stderr)
