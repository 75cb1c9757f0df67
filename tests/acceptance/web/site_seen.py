"""An app that tests ask through proxies: what it sees of a request, and bodies that come in parts."""

import time
from collections.abc import Iterator
from pathlib import Path

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse

import qmodal

app = qmodal.App("site")


@app.function()
@qmodal.concurrent(max_inputs=20)
@qmodal.asgi_app()
def seen() -> FastAPI:
    """The site."""
    made = FastAPI()

    @made.get("/where")
    def where(request: Request) -> dict[str, str | None]:
        client = None if request.client is None else request.client.host
        return {
            "url": str(request.url),
            "client": client,
            "root": str(request.scope["root_path"]),
        }

    @made.get("/gated")
    def gated(gate: str) -> StreamingResponse:
        return StreamingResponse(_until(Path(gate)), media_type="text/event-stream")

    @made.post("/upload")
    async def upload(request: Request, marker: str) -> int:
        total = 0
        async for part in request.stream():
            total += len(part)
            if part:
                _mark(marker)
        return total

    @made.websocket("/echo")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)

    return made


def _mark(marker: str) -> None:
    Path(marker).touch()


def _until(gate: Path) -> Iterator[str]:
    """One event at once, and one more once the file is there."""
    yield "data: begun\n\n"
    while not gate.exists():
        time.sleep(0.01)
    yield "data: done\n\n"
