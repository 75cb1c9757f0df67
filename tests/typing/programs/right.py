"""A program that type checkers accept, with what they say about its expressions."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime
from typing import Any, assert_type

import qmodal as modal

app = modal.App("right")
image = modal.Image.debian_slim().pip_install("numpy").env({"MODE": "fast"})


@app.function(
    image=image,
    retries=modal.Retries(max_retries=2),
    secrets=[modal.Secret.from_dict({"TOKEN": "abc"})],
    volumes={"/models": modal.Volume.from_name("models")},
    region="us-east",
)
def measure(text: str, times: int = 1) -> int:
    return len(text) * times


@app.function()
async def fetch(url: str) -> bytes:
    return url.encode()


@app.function()
@modal.concurrent(max_inputs=10)
def shared(x: int) -> str:
    return str(x)


@app.function()
@modal.batched(max_batch_size=10, wait_ms=100)
def collected(xs: list[int]) -> list[str]:
    return [str(x) for x in xs]


@app.function()
@modal.fastapi_endpoint(method="POST")
def answer(name: str) -> str:
    return name


@app.cls(max_containers=3)
class Model:
    name: str = modal.parameter()
    size: int = modal.parameter(default=3)
    cache: str = modal.parameter(init=False, default="")

    @modal.enter()
    def load(self) -> None:
        self.cache = self.name

    @modal.method()
    def describe(self, times: int) -> str:
        return self.cache * times

    @modal.method()
    async def later(self, times: int) -> str:
        own = await self.describe.remote.aio(times)
        return own + self.plain()

    def plain(self) -> str:
        return self.name


@app.cls()
class Larger(Model):
    depth: int = modal.parameter(default=1)


@app.cls()
class Older:
    def __init__(self, language: str) -> None:
        self.language = language

    @modal.method()
    def show(self) -> str:
        return self.language


def functions() -> None:
    assert_type(measure.remote("a", times=2), int)
    assert_type(measure.local("a"), int)
    assert_type(measure.spawn("a").get(timeout=1), int)
    assert_type(measure.spawn("a").num_inputs(), int)
    assert_type(list(modal.FunctionCall.gather(measure.spawn("a"), measure.spawn("b"))), list[int])
    assert_type(list(measure.map(["a", "b"])), list[int])
    assert_type(list(measure.starmap([("a", 1)])), list[int])
    assert_type(list(measure.spawn_map(["a"]).iter(start=0)), list[int])
    assert_type(measure.with_options(timeout=3).remote("a"), int)
    assert_type(list(measure.with_concurrency(max_inputs=2).map(["a"])), list[int])
    assert_type(measure.autoscaler.update(max_containers=None).max_containers, int | None)
    assert_type(measure.for_each(["a"]), None)
    assert_type(measure.info().timeout, int)
    assert_type(measure.get_web_url(), str | None)
    secret = modal.Secret.from_name("aws", required_keys=["KEY"])
    assert_type(secret.hydrate().info().last_used, datetime | None)
    assert_type(secret.update({"KEY": "value"}), None)
    assert_type(modal.Secret.objects.list(max_objects=3), list[modal.Secret])
    assert_type([each.message for each in measure.logs.tail(5)], list[str])
    assert_type(measure.hydrate().remote("a"), int)
    assert_type(fetch.remote("u"), bytes)
    assert_type(shared.remote(1), str)
    assert_type(collected.remote(1), str)
    assert_type(answer.local("you"), str)


async def in_a_loop() -> None:
    assert_type(await measure.remote.aio("a"), int)
    assert_type(await fetch.remote.aio("u"), bytes)
    await assert_type(fetch.local("u"), Coroutine[Any, Any, bytes])
    call = await fetch.spawn.aio("u")
    assert_type(await call.get.aio(timeout=3), bytes)
    assert_type([each async for each in measure.map.aio(["a"])], list[int])
    spawned = await measure.spawn_map.aio(["a"])
    assert_type([each async for each in spawned.iter.aio()], list[int])
    assert_type(list(await modal.FunctionCall.gather.aio(spawned, spawned)), list[int])
    assert_type(await measure.for_each.aio(["a"]), None)
    assert_type([each.message async for each in app.logs.stream.aio(timeout=3)], list[str])


def objects() -> None:
    prices = modal.Dict.from_name("prices", create_if_missing=True)
    jobs = modal.Queue.from_name("jobs", create_if_missing=True)
    prices["apple"] = 3
    assert_type(prices.put("apple", 3, skip_if_exists=True), bool)
    assert_type(prices.len(), int)
    assert_type("apple" in prices, bool)
    assert_type(list(prices.items()), list[tuple[Any, Any]])
    assert_type(modal.Dict.objects.list(), list[modal.Dict])
    assert_type(prices.info().name, str | None)
    assert_type(jobs.put("a", partition="p"), None)
    assert_type(jobs.get_many(3, timeout=1.5), list[Any])
    assert_type(jobs.hydrate().object_id, str)
    with modal.Queue.ephemeral() as made:
        assert_type(made, modal.Queue)


def apps() -> None:
    assert_type(app.deploy(name="b"), modal.App)
    assert_type(modal.App.lookup("b", create_if_missing=True), modal.App)
    assert_type(app.get_tags(), dict[str, str])
    assert_type(app.stop(), None)


def classes() -> None:
    model = Model(name="a")
    assert_type(model, Model)
    assert_type(model.size, int)
    assert_type(model.describe.remote(2), str)
    assert_type(model.later.remote(2), str)
    assert_type(model.later.spawn(times=2).get(), str)
    assert_type(model.describe.local(2), str)
    assert_type(list(model.describe.map([1, 2])), list[str])
    assert_type(Larger(name="a", size=2, depth=3).describe.remote(2), str)
    assert_type(Older("fr").show.remote(), str)
