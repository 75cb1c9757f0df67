"""A program with a function, a generator, a schedule and a web function; fuzz.py attacks it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import qmodal

app = qmodal.App("attacked")


@app.function(scaledown_window=2)
def double(number: int) -> int:
    return number * 2


@app.function(scaledown_window=2)
def nap(number: int) -> int:
    time.sleep(0.1)
    return number


@app.function(scaledown_window=2)
def count(most: int) -> Iterator[int]:
    yield from range(most)


@app.function(schedule=qmodal.Period(seconds=1), scaledown_window=2)
def tick() -> None:
    """Its runs are noted by who starts them."""


@app.function(scaledown_window=2)
@qmodal.asgi_app()
def page() -> Any:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"here"})

    return answer
