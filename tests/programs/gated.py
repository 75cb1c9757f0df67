"""A program with web functions for a gateway: bare apps, whose responses are what the tests want them to be."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import qmodal

app = qmodal.App("gated")


async def read(receive: Any) -> int:
    """How long the body of a request is."""
    size = 0
    while True:
        event = await receive()
        size += len(event.get("body", b""))
        if not event.get("more_body"):
            return size


def is_there(folder: str, name: str) -> bool:
    """Whether the test has made the file."""
    return Path(folder, name).exists()


def note(folder: str, name: str) -> None:
    """Tell the test."""
    Path(folder, name).touch()


async def until(folder: str, name: str) -> None:
    """Until the test makes the file."""
    for _ in itertools.count():
        if is_there(folder, name):
            return
        await asyncio.sleep(0.01)


def answer(status: int, body: bytes, *headers: tuple[bytes, bytes]) -> list[dict[str, Any]]:
    """The events of a whole response."""
    return [
        {"type": "http.response.start", "status": status, "headers": headers},
        {"type": "http.response.body", "body": body},
    ]


async def told(scope: Any, receive: Any) -> list[dict[str, Any]]:
    """What the app is told."""
    about = {name: scope[name] for name in ("method", "scheme", "path", "root_path", "client")}
    about["headers"] = [
        [name.decode(), value.decode("latin-1")] for name, value in scope["headers"]
    ]
    about["query"], about["body"] = scope["query_string"].decode(), await read(receive)
    about["pid"] = os.getpid()
    return answer(200, json.dumps(about).encode(), (b"content-type", b"application/json"))


BAD = {
    "break": answer(200, b"", (b"x-a", b"1\r\nset-cookie: stolen=1")),
    "name": answer(200, b"", (b"x a", b"1")),
    "status": answer(99, b""),
    "interim": answer(101, b""),
    "lengths": answer(200, b"ab", (b"content-length", b"2"), (b"content-length", b"3")),
    "short": answer(200, b"ab", (b"content-length", b"5")),
}
ODD = {
    "none": answer(204, b"not to be sent", (b"content-length", b"14")),
    "same": answer(304, b"", (b"content-length", b"14"), (b"etag", b'"a"')),
    "hop": answer(200, b"ok", (b"connection", b"x-a"), (b"keep-alive", b"1"), (b"date", b"never")),
}


async def site(scope: Any, receive: Any, send: Any) -> None:
    """The app: its path says what it does."""
    if scope["type"] != "http":
        await socket(scope, receive, send)
        return
    kind = scope["path"].removeprefix(scope["root_path"]).strip("/").split("/")[0]
    query = {name: values[-1] for name, values in parse_qs(scope["query_string"].decode()).items()}
    if kind in BAD:
        events = BAD[kind]
    elif kind in ODD:
        events = ODD[kind]
    elif kind in KINDS:
        await KINDS[kind](query, receive, send)
        return
    else:
        events = await told(scope, receive)
    for event in events:
        await send(event)


async def stream(query: Any, receive: Any, send: Any) -> None:
    """Parts, each after the file that asks for it or, of a given text, as fast as they are taken."""
    folder, text = query["folder"], query.get("part", "") * int(query.get("times", 1))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    try:
        for number in range(int(query.get("count", 1_000_000))):
            part = (text or f"{number}\n").encode()
            await send({"type": "http.response.body", "body": part, "more_body": True})
            if not text:
                await until(folder, f"next-{number}")
            if is_there(folder, "fail"):
                raise ValueError("on purpose")
            if is_there(folder, "die"):
                os.kill(os.getpid(), signal.SIGKILL)
        await send({"type": "http.response.body", "body": b""})
    finally:
        note(folder, "ended")


async def waits(query: Any, receive: Any, send: Any) -> None:
    """Waits for a file, and then answers."""
    note(query["folder"], "began")
    try:
        await until(query["folder"], "go")
    except asyncio.CancelledError:
        note(query["folder"], "cancelled")
        raise
    for event in answer(200, b"x" * int(query.get("size", 4))):
        await send(event)


async def size(query: Any, receive: Any, send: Any) -> None:
    """Counts a body."""
    total = parts = 0
    more = True
    while more:
        event = await receive()
        more = event.get("more_body", False)
        total += len(event.get("body", b""))
        parts += 1
    for event in answer(200, f"{total} {min(parts, 2)}".encode()):
        await send(event)


async def echo(query: Any, receive: Any, send: Any) -> None:
    """Sends back what comes, part by part."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        event = await receive()
        more = event.get("more_body", False)
        body = event.get("body", b"")
        await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def fails(query: Any, receive: Any, send: Any) -> None:
    """Raises what nobody outside should read."""
    raise ValueError("a secret of the app")


async def dies(query: Any, receive: Any, send: Any) -> None:
    """Ends its container, the first time."""
    if not is_there(query["folder"], "died"):
        note(query["folder"], "died")
        os.kill(os.getpid(), signal.SIGKILL)
    for event in answer(200, b"survived"):
        await send(event)


async def blocks(query: Any, receive: Any, send: Any) -> None:
    """Keeps the loop for itself."""
    note(query["folder"], "began")
    block(query["folder"])


def block(folder: str) -> None:
    """Wait as no coroutine should."""
    while not is_there(folder, "go"):
        time.sleep(0.01)


async def bad_late(query: Any, receive: Any, send: Any) -> None:
    """Begins a response that cannot be, and streams it."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1\n2")]})
    for _ in range(3):
        await send({"type": "http.response.body", "body": bytes(200_000), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


KINDS = {
    "stream": stream,
    "waits": waits,
    "size": size,
    "echo": echo,
    "fails": fails,
    "dies": dies,
    "blocks": blocks,
    "bad-late": bad_late,
}


async def socket(scope: Any, receive: Any, send: Any) -> None:
    """A websocket, unless its path says that it is refused."""
    if scope["type"] == "lifespan":
        raise RuntimeError("it has none")
    await receive()
    path = scope["path"].rpartition("/")[2]
    if path == "refused":
        await send({"type": "websocket.close"})
    elif path == "denied":
        kind = "websocket.http.response"
        await send({"type": f"{kind}.start", "status": 418, "headers": [(b"x-why", b"tea")]})
        await send({"type": f"{kind}.body", "body": b"not today"})
    else:
        chosen = "chat" if "chat" in scope["subprotocols"] else None
        if path == "injects":
            chosen = "chat\r\nset-cookie: stolen=1"
        await send({"type": "websocket.accept", "subprotocol": chosen})
        await talk(scope, receive, send)


async def talk(scope: Any, receive: Any, send: Any) -> None:
    """Sends messages back, and does what some of them say."""
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            for folder in parse_qs(scope["query_string"].decode()).get("folder", ()):
                note(folder, f"left-{event['code']}")
            return
        if event.get("text") == "close":
            await send({"type": "websocket.close", "code": 4001, "reason": "as you wish"})
            return
        if event.get("text") == "pid":
            event["text"] = f"{os.getpid()}."
        if event.get("text") == "fail":
            raise ValueError("on purpose")
        event["type"] = "websocket.send"
        await send(event)


@app.function(max_containers=1)
@qmodal.concurrent(max_inputs=50)
@qmodal.asgi_app()
def web() -> Any:
    return site


@app.function(max_containers=1)
@qmodal.asgi_app()
def slow() -> Any:
    return site


@app.function(timeout=1)
@qmodal.asgi_app()
def short() -> Any:
    return site


@app.function(max_containers=1)
@qmodal.concurrent(max_inputs=50)
@qmodal.asgi_app(requires_proxy_auth=True)
def guarded() -> Any:
    return site


@app.function()
@qmodal.asgi_app(label="a-shop")
def labelled() -> Any:
    return site


@app.function()
@qmodal.asgi_app()
def broken() -> Any:
    raise LookupError("a secret of the start")


@app.cls(max_containers=1)
class Shop:
    """A class with parameters."""

    city: str = qmodal.parameter()
    size: int = qmodal.parameter(default=3)
    is_open: bool = qmodal.parameter(default=True)

    @qmodal.asgi_app()
    def pages(self) -> Any:
        async def page(scope: Any, receive: Any, send: Any) -> None:
            about = [self.city, self.size, self.is_open, scope["query_string"].decode()]
            for event in answer(200, json.dumps(about).encode()):
                await send(event)

        return page
