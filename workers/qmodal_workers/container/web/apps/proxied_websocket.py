"""A websocket that is passed on to a server on this machine."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from qmodal_workers.container.web.apps.proxy_headers import (
    OWN_OF_WEBSOCKET,
    as_text,
    forwarded,
    passed_on,
)
from qmodal_workers.container.web.asgi_run import Receive, Send

GOING_AWAY, NO_CODE, ABNORMAL = 1001, 1005, 1006


async def relay(
    session: aiohttp.ClientSession, url: URL, scope: dict[str, Any], receive: Receive, send: Send
) -> None:
    """Accept the websocket as the server does, and pass messages on until either side closes it."""
    await receive()  # the question whether to accept
    headers = passed_on(scope["headers"], also=OWN_OF_WEBSOCKET) + forwarded(scope)
    try:
        server = await session.ws_connect(
            url,
            protocols=scope["subprotocols"],
            headers=CIMultiDict(as_text(headers)),
            max_msg_size=0,
            compress=0,
        )
    except aiohttp.WSServerHandshakeError as error:
        given = [(k.encode(), v.encode()) for k, v in (error.headers or {}).items()]
        await _refuse(send, error.status, passed_on(given, also=OWN_OF_WEBSOCKET))
        return
    except aiohttp.ClientError:
        await _refuse(send, 502, [])
        return
    async with server:
        answered = passed_on(server._response.raw_headers, also=OWN_OF_WEBSOCKET)
        await send(
            {"type": "websocket.accept", "subprotocol": server.protocol, "headers": answered}
        )
        await _both_ways(server, receive, send)


async def _refuse(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    # With any other status a client would take it for an answer to something else.
    refused = status if 400 <= status < 600 else 502
    start = {"type": "websocket.http.response.start", "status": refused, "headers": headers}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": b""})


async def _both_ways(server: aiohttp.ClientWebSocketResponse, receive: Receive, send: Send) -> None:
    forth = asyncio.create_task(_from_client(server, receive))
    back = asyncio.create_task(_from_server(server, send))
    try:
        await asyncio.wait([forth, back], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in (forth, back):
            each.cancel()
        ended = await asyncio.gather(forth, back, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception):
            raise error


async def _from_client(server: aiohttp.ClientWebSocketResponse, receive: Receive) -> None:
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            code = event["code"]
            code = GOING_AWAY if code in {NO_CODE, ABNORMAL} else code
            await server.close(code=code, message=event["reason"].encode())
            return
        if "text" in event:
            await server.send_str(event["text"])
        else:
            await server.send_bytes(event["bytes"])


async def _from_server(server: aiohttp.ClientWebSocketResponse, send: Send) -> None:
    reason = ""
    while True:
        message = await server.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            await send({"type": "websocket.send", "text": message.data})
        elif message.type is aiohttp.WSMsgType.BINARY:
            await send({"type": "websocket.send", "bytes": message.data})
        else:
            reason = message.extra or "" if message.type is aiohttp.WSMsgType.CLOSE else ""
            break
    code = server.close_code
    is_sayable = code is not None and code not in {NO_CODE, ABNORMAL}
    code = code if is_sayable else GOING_AWAY
    await send({"type": "websocket.close", "code": code, "reason": reason})
