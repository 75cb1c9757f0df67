"""An app with one of everything that keys of their own stand for; run by test_acl.py beside it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import qmodal

app = qmodal.App("rights", secrets=[qmodal.Secret.from_name("stored")])


@app.function()
def square(x: int) -> int:
    print("squared", x)
    return x * x


@app.function()
def relay(x: int) -> int:
    results = qmodal.Dict.from_name("results", create_if_missing=True)
    results[x] = square.remote(x)
    qmodal.Queue.from_name("heard", create_if_missing=True).put(x)
    return int(results[x])


@app.function(retries=1)
def fail(text: str) -> None:
    raise ValueError(text)


@app.function()
def count(till: int) -> Iterator[int]:
    yield from range(till)


@app.function()
def size(data: bytes) -> bytes:
    return data


@app.function()
def secret() -> str:
    return os.environ["WORD"]


@app.function()
def rest() -> None:
    time.sleep(600)


@app.function()
@qmodal.concurrent(max_inputs=10)
def together(x: int) -> int:
    time.sleep(0.01)
    return x


@app.cls()
class Adder:
    by: int = qmodal.parameter()

    @qmodal.method()
    def add(self, x: int) -> int:
        return x + self.by


@app.function(schedule=qmodal.Period(seconds=1))
def tick() -> None:
    qmodal.Dict.from_name("ticks", create_if_missing=True)["last"] = time.time()


@app.function()
@qmodal.fastapi_endpoint(requires_proxy_auth=True)
def page(x: int) -> int:
    return x * x


@app.function()
@qmodal.asgi_app()
def stream():  # type: ignore[no-untyped-def]
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse

    site = FastAPI()

    @site.get("/")
    def chunks() -> StreamingResponse:
        return StreamingResponse(b"x" * 10_000 for _ in range(20))

    return site


@app.local_entrypoint()
def main() -> None:
    print("sum", sum(square.map(range(5))), relay.remote(2))
