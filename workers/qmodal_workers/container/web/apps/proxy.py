"""An ASGI app that passes requests on to a server on this machine, streamed both ways."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from qmodal_workers.container.web.apps.proxied_websocket import relay
from qmodal_workers.container.web.apps.proxy_headers import OWN, as_text, forwarded, passed_on
from qmodal_workers.container.web.asgi_run import Receive, Send
from qmodal_workers.container.web.scope import raw_root

# What aiohttp would add to the client's own.
_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_TEXT = [(b"content-type", b"text/plain; charset=utf-8")]
_BODY = frozenset({b"content-length", b"transfer-encoding"})


class Proxy:
    """Passes requests on to a server; made, used and closed in one loop."""

    def __init__(self, host: str, port: int) -> None:
        self._base = str(URL.build(scheme="http", host=host, port=port).origin())
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_ADDED,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
            trace_configs=[trace],
        )

    async def close(self) -> None:
        """Close the connections to the server."""
        await self._session.close()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request or websocket."""
        path = scope["raw_path"][len(raw_root(scope["root_path"])) :]
        if scope["query_string"]:
            path += b"?" + scope["query_string"]
        # Not joined: a path that begins with two slashes would name another server, and `..` would be resolved.
        url = URL(self._base + path.decode("latin-1"), encoded=True)
        if scope["type"] == "websocket":
            await relay(self._session, url, scope, receive, send)
            return
        try:
            response = await self._answer(url, scope, receive)
        except aiohttp.ClientError as error:
            text = f"the web server of this function does not answer: {error}".encode()
            await send({"type": "http.response.start", "status": 502, "headers": _TEXT})
            await send({"type": "http.response.body", "body": text})
            return
        async with response:
            await _give_back(response, send)

    async def _answer(
        self, url: URL, scope: dict[str, Any], receive: Receive
    ) -> aiohttp.ClientResponse:
        """The response to the request; tried again if the server has closed a kept connection meanwhile."""
        has_body = not _BODY.isdisjoint(name for name, _ in scope["headers"])
        note = SimpleNamespace(is_reused=False)
        try:
            return await self._ask(url, scope, _body(receive) if has_body else None, note)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if has_body or not note.is_reused:
                raise
        return await self._ask(url, scope, None, note)

    async def _ask(
        self,
        url: URL,
        scope: dict[str, Any],
        body: AsyncIterator[bytes] | None,
        note: SimpleNamespace,
    ) -> aiohttp.ClientResponse:
        headers = passed_on(scope["headers"], also=OWN) + forwarded(scope)
        return await self._session.request(
            scope["method"],
            url,
            headers=CIMultiDict(as_text(headers)),
            data=body,
            allow_redirects=False,
            trace_request_ctx=note,
        )


async def _note_reuse(_session: object, context: SimpleNamespace, _params: object) -> None:
    if context.trace_request_ctx is not None:  # else it is for a websocket
        context.trace_request_ctx.is_reused = True


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise aiohttp.ClientConnectionError("the client has left")
        if event["body"]:
            yield event["body"]
        if not event["more_body"]:
            return


async def _give_back(response: aiohttp.ClientResponse, send: Send) -> None:
    headers = passed_on(response.raw_headers)
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    async for part in response.content.iter_any():
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
