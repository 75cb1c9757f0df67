"""The app that both sides serve: `uvicorn benchmarks.web.site:site`, or an `asgi_app`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

CHUNK = bytes(64 * 1024)
EVENT_SECONDS = 1.0


def make_site() -> FastAPI:
    """The app."""
    made = FastAPI(openapi_url=None)
    made.get("/hello")(hello)
    made.get("/pid")(pid)
    made.get("/stream")(stream)
    made.get("/events")(events)
    made.websocket("/echo")(echo)
    return made


async def hello() -> dict[str, str]:
    """A small answer of JSON."""
    return {"hello": "world"}


async def pid() -> int:
    """The process that answers."""
    return os.getpid()


async def stream(chunks: int) -> StreamingResponse:
    """So many chunks of 64 KiB, as fast as they are taken."""

    async def body() -> AsyncIterator[bytes]:
        for _ in range(chunks):
            yield CHUNK

    return StreamingResponse(body(), media_type="application/octet-stream")


async def events(count: int) -> StreamingResponse:
    """So many messages, one a second; each is the moment at which it was sent, in ns of the machine."""

    async def body() -> AsyncIterator[str]:
        for _ in range(count):
            yield f"data: {time.monotonic_ns()}\n\n"
            await asyncio.sleep(EVENT_SECONDS)

    return StreamingResponse(body(), media_type="text/event-stream")


async def echo(socket: WebSocket) -> None:
    """Each message comes back."""
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        return


site = make_site()
