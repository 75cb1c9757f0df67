"""A web server that a test's `web_server` function starts: HTTP of the standard library, and websockets beside it."""

from __future__ import annotations

import sys
from typing import Any

from aiohttp import WSMsgType, web


async def headers(request: web.Request) -> web.Response:
    found = [[name.decode(), value.decode()] for name, value in request.raw_headers]
    answered = {"Connection": "keep-alive, X-Hop", "X-Hop": "mine", "X-Kept": "yes"}
    return web.json_response({"headers": found, "path": request.raw_path}, headers=answered)


async def echo(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    async for part in request.content.iter_any():
        await response.write(part)
    return response


async def closes(request: web.Request) -> web.StreamResponse:
    """Closes the connection behind the response, which has not said so."""
    response = web.Response(text="bye")
    await response.prepare(request)
    await response.write_eof()
    if request.transport is not None:
        request.transport.close()
    return response


async def socket(request: web.Request) -> Any:
    if "refuse" in request.query:
        return web.Response(status=403, text="no", headers={"x-why": "closed"})
    made = web.WebSocketResponse(protocols=("chat",))
    await made.prepare(request)
    async for message in made:
        if message.type is WSMsgType.TEXT:
            if message.data == "close":
                await made.close(code=4002, message=b"bye")
            else:
                await made.send_str(message.data.upper())
        elif message.type is WSMsgType.BINARY:
            await made.send_bytes(message.data)
    return made


app = web.Application(client_max_size=1 << 30)
app.add_routes(
    [
        web.get("/headers{rest:.*}", headers),
        web.post("/echo", echo),
        web.get("/closes", closes),
        web.get("/socket", socket),
    ]
)
if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
