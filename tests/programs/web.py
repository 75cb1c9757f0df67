"""A program with web functions of every kind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket as socketlib
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import BackgroundTasks, FastAPI, Form, Request, Response, UploadFile, WebSocket
from fastapi.responses import FileResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel

import qmodal

app = qmodal.App("web")
# The file is not a part of the program, and so not beside it in containers.
SERVER = Path(__file__).with_name("web_server.py")


def free_port() -> int:
    """A port that nobody has."""
    with socketlib.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


# Chosen where the program runs, and told to its containers.
PORT = int(os.environ.get("TEST_WEB_PORT", "0")) or free_port()
ABSENT = free_port()
SERVER_ENV = {"TEST_WEB_SERVER": str(SERVER), "TEST_WEB_PORT": str(PORT)}


def show(folder: str, name: str) -> None:
    """Tell the test that it has come so far."""
    Path(folder, name).touch()


def until(folder: str, name: str) -> None:
    """Wait for the test."""
    while not Path(folder, name).exists():
        time.sleep(0.01)


class Item(BaseModel):
    """What a body holds."""

    name: str
    price: float = 1.0


@app.function()
@qmodal.fastapi_endpoint()
def plain(x: int, name: str = "none") -> dict[str, Any]:
    return {"square": x * x, "name": name, "thread": threading.current_thread().name}


@app.function()
@qmodal.fastapi_endpoint(method="POST", docs=True)
async def create(item: Item, response: Response) -> dict[str, Any]:
    response.status_code = 201
    response.set_cookie("seen", item.name)
    return {"id": qmodal.current_input_id(), **item.model_dump()}


@app.function()
@qmodal.fastapi_endpoint(method="POST")
async def form(title: Annotated[str, Form()], file: UploadFile) -> dict[str, Any]:
    return {"title": title, "name": file.filename, "size": len(await file.read())}


@app.function()
def up(count: int) -> Iterator[str]:
    for number in range(count):
        yield f"{number}\n"


@app.function()
def double(number: int) -> str:
    return f"{2 * number} "


@app.function()
@qmodal.fastapi_endpoint()
def streamed(how: str, count: int = 3) -> StreamingResponse:
    items = up.remote_gen(count) if how == "generator" else double.map(range(count))
    return StreamingResponse(items, media_type="text/plain")


@app.function(timeout=1)
@qmodal.fastapi_endpoint()
async def late(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "late"


@app.function()
@qmodal.fastapi_endpoint()
def in_thread(folder: str) -> str:
    show(folder, f"began-{os.getpid()}")
    until(folder, "go")
    return str(os.getpid())


@app.function()
@qmodal.fastapi_endpoint(method="POST")
def dies(folder: str) -> str:
    show(folder, f"post-{os.getpid()}")
    if len(list(Path(folder).iterdir())) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@app.function()
@qmodal.fastapi_endpoint()
def dies_once(folder: str) -> str:
    show(folder, f"get-{os.getpid()}")
    if len(list(Path(folder).iterdir())) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@app.cls()
class Shop:
    """A class with parameters, whose methods answer requests and calls."""

    city: str = qmodal.parameter()
    size: int = qmodal.parameter(default=3)

    @qmodal.enter()
    def open(self) -> None:
        self.stock = ["apple"] * self.size

    @qmodal.fastapi_endpoint(docs=True)
    def stock_of(self, shelf: int = 0) -> dict[str, Any]:
        return {"city": self.city, "stock": self.stock, "shelf": shelf}

    @qmodal.method()
    def count(self) -> int:
        return len(self.stock)


@app.cls()
@qmodal.concurrent(max_inputs=4)
class Stages:
    """A class that says in which order things happen."""

    folder: str = qmodal.parameter()

    def note(self, what: str) -> None:
        with Path(self.folder, "stages").open("a") as file:
            file.write(f"{what}\n")

    def noted(self) -> list[str]:
        return Path(self.folder, "stages").read_text().split()

    @qmodal.enter()
    def enters(self) -> None:
        self.note("enter")

    @qmodal.exit()
    def exits(self) -> None:
        self.note("exit")

    @qmodal.asgi_app()
    def site(self) -> FastAPI:
        @contextlib.asynccontextmanager
        async def lasts(_: FastAPI) -> AsyncIterator[None]:
            self.note("startup")
            yield
            self.note("shutdown")

        self.note("factory")
        return FastAPI(lifespan=lasts)

    @qmodal.fastapi_endpoint()
    async def stages(self) -> list[str]:
        return self.noted()

    @qmodal.fastapi_endpoint()
    def container(self) -> str:
        return os.environ["MODAL_TASK_ID"]


@contextlib.asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[dict[str, Any]]:
    api.state.log = ["up"]
    yield {"began": "yes", "log": api.state.log}
    print("the lifespan is over", flush=True)


api = FastAPI(lifespan=lifespan)


@api.get("/scope/{rest:path}")
async def scope(request: Request) -> dict[str, Any]:
    names = ("type", "method", "scheme", "path", "root_path", "http_version", "client", "server")
    found = {name: request.scope[name] for name in names}
    return {
        **found,
        "raw": request.scope["raw_path"].decode(),
        "query": dict(request.query_params),
        "state": [request.state.began, request.state.log],
        "headers": dict(request.headers),
        "url": str(request.url),
    }


@api.get("/redirect")
def redirect() -> RedirectResponse:
    return RedirectResponse("/scope/there")


@api.get("/file")
def file(path: str) -> FileResponse:
    return FileResponse(path, filename="its name.bin")


@api.get("/events")
async def events(folder: str) -> StreamingResponse:
    show(folder, f"began-{os.getpid()}")

    async def made() -> AsyncIterator[str]:
        for number in range(3):
            yield f"data: {number}\n\n"
            await asyncio.to_thread(until, folder, f"next-{number}")

    return StreamingResponse(made(), media_type="text/event-stream")


@api.get("/endless")
async def endless(folder: str) -> StreamingResponse:
    async def made() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(64 * 1024)
        finally:
            show(folder, "ended")

    return StreamingResponse(made())


@api.get("/waits")
async def waits(folder: str) -> None:
    show(folder, f"began-{os.getpid()}")
    try:
        await asyncio.Event().wait()
    finally:
        show(folder, "cancelled")


@api.get("/in-thread")
def in_thread_too(folder: str) -> str:
    return in_thread.local(folder)


@api.get("/large")
def large(size: int) -> Response:
    return Response(bytes(size), media_type="application/octet-stream")


@api.post("/size")
async def size(request: Request) -> dict[str, int]:
    total = parts = 0
    async for part in request.stream():
        total += len(part)
        parts += bool(part)
    return {"size": total, "parts": parts}


@api.post("/echo")
async def echo(request: Request) -> StreamingResponse:
    return StreamingResponse(request.stream())


@api.get("/background")
async def background(folder: str, tasks: BackgroundTasks) -> str:
    async def later() -> None:
        await asyncio.to_thread(until, folder, "go")
        show(folder, "done")

    tasks.add_task(later)
    return "at once"


@api.get("/fails")
async def fails() -> None:
    raise ValueError("on purpose")


@api.get("/fails-late")
async def fails_late() -> StreamingResponse:
    async def made() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.sleep(0.1)
        raise ValueError("on purpose")

    return StreamingResponse(made())


@api.websocket("/socket")
async def socket(ws: WebSocket) -> None:
    await ws.accept("chat" if "chat" in ws.scope["subprotocols"] else None)
    while True:
        message = await ws.receive()
        if message["type"] == "websocket.disconnect":
            show(ws.query_params["folder"], f"left-{message['code']}")
            return
        if message.get("text") == "close":
            await ws.close(4001, "as you wish")
            return
        if message.get("text") == "fail":
            raise ValueError("on purpose")
        if message.get("text") is not None:
            await ws.send_text(message["text"].upper())
        else:
            await ws.send_bytes(message["bytes"])


@api.websocket("/refused")
async def refused(ws: WebSocket, how: str = "close") -> None:
    if how == "close":
        await ws.close()
    else:
        await ws.send_denial_response(Response("not today", 418, {"x-why": "tea"}))


@app.function()
@qmodal.concurrent(max_inputs=20)
@qmodal.asgi_app()
def site() -> FastAPI:
    return api


@app.function()
@qmodal.asgi_app()
def one_at_a_time() -> FastAPI:
    return api


@app.function()
@qmodal.asgi_app()
def bare() -> Any:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http", "it knows no lifespan"
        kind = scope["path"].strip("/")
        if kind == "nothing":
            return
        if kind == "half":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            return
        if kind == "leaves":
            event = await receive()
            while event["type"] != "http.disconnect":
                event = await receive()
        if kind == "exits":
            raise SystemExit(3)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1")]})
        await send({"type": "http.response.body", "body": kind.encode()})

    return answer


async def no_model() -> None:
    raise LookupError("no model is there")


@app.function()
@qmodal.asgi_app()
def broken() -> FastAPI:
    @contextlib.asynccontextmanager
    async def failing(_: FastAPI) -> AsyncIterator[None]:
        await no_model()
        yield

    return FastAPI(lifespan=failing)


@app.function()
@qmodal.wsgi_app()
def wsgi() -> Any:
    def answer(environ: Any, start_response: Any) -> Iterator[bytes]:
        body = environ["wsgi.input"].read()
        start_response(
            "200 OK", [("Content-Type", "text/plain"), ("X-Script", environ["SCRIPT_NAME"])]
        )
        yield f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} ".encode()
        yield f"{environ['QUERY_STRING']} {len(body)}".encode()

    return answer


@app.function(max_containers=1, env=SERVER_ENV)
@qmodal.concurrent(max_inputs=10)
@qmodal.web_server(PORT, startup_timeout=20)
def server() -> None:
    subprocess.Popen([sys.executable, os.environ["TEST_WEB_SERVER"], str(PORT)])


@app.function()
@qmodal.web_server(ABSENT, startup_timeout=0.3)
def absent() -> None:
    """Starts nothing."""
