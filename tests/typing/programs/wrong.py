"""A program that type checkers must not accept: each line with this mark, and no other. # wrong"""

from __future__ import annotations

import qmodal as modal

app = modal.App("wrong")


@app.function()
def measure(text: str, times: int = 1) -> int:
    return len(text) * times


@app.function()
async def fetch(url: str) -> bytes:
    return url.encode()


@app.cls()
class Model:
    name: str = modal.parameter()
    size: int = modal.parameter(default=3)
    cache: str = modal.parameter(init=False, default="")

    @modal.method()
    def describe(self, times: int) -> str:
        return self.name * times


@app.cls()
class Older:
    def __init__(self, language: str) -> None:
        self.language = language

    @modal.method()
    def show(self) -> str:
        return self.language


def calls() -> None:
    measure.remote(3)  # wrong
    measure.remote("a", size=2)  # wrong
    measure.remote()  # wrong
    measure.spawn(3)  # wrong
    measure.local(3)  # wrong
    measure("a")  # wrong
    text: str = measure.remote("a")  # wrong
    later: str = measure.spawn("a").get()  # wrong
    texts: list[str] = list(measure.map(["a"]))  # wrong
    measure.with_options(timeout="long")  # wrong
    measure.with_options(min_containers=2)  # wrong
    measure.with_options(timeout=3).remote(3)  # wrong
    number: int = fetch.remote("u")  # wrong
    measure.spawn("a").get(index="first")  # wrong
    measure.spawn("a").iter(3)  # wrong
    measure.map(["a"], ordered=False)  # wrong
    measure.spawn_map(["a"], key="b")  # wrong
    measure.logs.tail("many")  # wrong
    measure.autoscaler.update(max_containers="many")  # wrong
    print(text, later, texts, number)


async def calls_in_a_loop() -> None:
    await measure.remote.aio(3)  # wrong
    number: int = await fetch.remote.aio("u")  # wrong
    print(number)


def apps() -> None:
    app.set_tags(3)  # wrong
    app.deploy(3)  # wrong
    modal.App.lookup()  # wrong
    app.stop(True)  # wrong


def instances() -> None:
    Model()  # wrong
    Model("a")  # wrong
    Model(name=3)  # wrong
    Model(name="a", cache="b")  # wrong
    Model(name="a", depth=1)  # wrong
    Older(3)  # wrong
    model = Model(name="a")
    model.describe.remote("two")  # wrong
    model.describe.spawn()  # wrong
    model.describe(2)  # wrong
    number: int = model.describe.remote(2)  # wrong
    print(number)


@app.function(timeout="long")  # wrong
def slow() -> None: ...


@app.function(gpus="A100")  # wrong
def fast() -> None: ...
