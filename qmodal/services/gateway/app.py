"""The ASGI app of a gateway: routes a request, lets it in or refuses it, and answers it with a call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from qmodal.exception import Error
from qmodal.services.gateway.access_log import AccessLog, Entry
from qmodal.services.gateway.exchange.body import ClientLeftError, RequestBody
from qmodal.services.gateway.exchange.call_wait import CallWait
from qmodal.services.gateway.exchange.http import HttpExchange
from qmodal.services.gateway.exchange.peer import HttpPeer, Receive, Send
from qmodal.services.gateway.exchange.responses import (
    RETRY,
    RefusedError,
    plain,
    refusal,
    unavailable,
)
from qmodal.services.gateway.exchange.results import PARAMETER, Results
from qmodal.services.gateway.exchange.websocket import (
    INTERNAL_ERROR,
    WebsocketExchange,
    WebsocketPeer,
)
from qmodal.services.gateway.figures import Counting, GatewayFigures
from qmodal.services.gateway.head import Head, Proxies, read_head
from qmodal.services.gateway.pages import HEALTH, NOWHERE, pages
from qmodal.services.gateway.proxy_auth import ProxyAuth
from qmodal.services.gateway.routing.endpoint import WebTarget
from qmodal.services.gateway.routing.router import Match, Router, names_of_host
from qmodal.services.gateway.shared import Shared
from qmodal.telemetry.events import GATEWAY_DEFECT, emit
from qmodal.telemetry.tracing import trace_of
from qmodal.wire.web import Protocol, Request

DEFECT = plain(500, "Internal Server Error")
STOPS = unavailable("The gateway stops; try again.")
# The extension of the gateway's own server, which tells when a client leaves.
CONNECTION = "qmodal.connection"


class GatewayApp:
    """One for each gateway, made in its loop; `shared` is opened before and closed after it."""

    def __init__(self, shared: Shared) -> None:
        options = shared.options
        self.results = Results(shared)
        self._shared = shared
        self._pages = pages()
        self._router = Router(shared.client, shared.in_background)
        self._auth = ProxyAuth(shared.client)
        self._proxies = Proxies(options.trusted_proxies)
        self._log = AccessLog(as_json=options.log_json) if options.access_log else None
        # Set before the first request, if they are counted.
        self.figures: GatewayFigures | None = None

    def __call__(self, scope: Any, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Answer one request, once that is awaited."""
        if scope["type"] == "http":
            return self._http(scope, receive, send)
        return self._websocket(scope, receive, send)

    async def _http(self, scope: Any, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        counting = None if self.figures is None else Counting(self.figures, send)
        send = send if counting is None else counting.send
        # Taken out, as it refers to the scope: every request would be left to the garbage collector.
        connection = scope["extensions"].pop(CONNECTION)
        peer = HttpPeer(connection, receive, send, scope["method"])
        head: Head | None = None
        try:
            head = read_head(scope, self._proxies)
            peer.request_id = head.request_id
            await self._answer(scope, head, peer)
        except ClientLeftError:
            pass
        except (Error, TimeoutError, asyncio.CancelledError) as error:
            refused = _refused(error)
            await peer.instead(refused.response, closes=refused.closes)
        except Exception as error:
            emit(GATEWAY_DEFECT, error, what="a request was not answered as it should be")
            await peer.instead(DEFECT, closes=True)
        finally:
            if counting is not None:
                counting.end(peer.function, peer.status)
            if self._log is not None:
                self._say(scope, head, scope["method"], peer, began)

    async def _answer(self, scope: Any, head: Head, peer: HttpPeer) -> None:
        raw_path, query = scope["raw_path"], scope["query_string"]
        is_own = raw_path == HEALTH and not names_of_host(head.host)
        match = None if is_own else await self._router.find(head.host, raw_path)
        if match is None:
            await peer.answer_with(self._pages, scope)
            return
        endpoint = match.endpoint
        peer.function = endpoint.function
        if endpoint.web.requires_proxy_auth:
            await self._auth.check(head)
        if query.startswith(PARAMETER):
            await self.results.answer(endpoint, query, peer, raw_path)
            return
        exchange = await self._exchange(scope, head, match, peer)
        if not await exchange.begin(peer):
            await self.results.redirect(exchange, endpoint, peer, raw_path)

    async def _exchange(self, scope: Any, head: Head, match: Match, peer: HttpPeer) -> HttpExchange:
        """The call that the request becomes, with what there is of its body; none of that is kept elsewhere."""
        target = match.endpoint.target(scope["query_string"])
        body = RequestBody(head, peer.receive, self._shared.options) if head.has_body else None
        inline = b"" if body is None else await body.begin(head)
        request = self._request("http", scope, head, match, inline, body)
        return HttpExchange(self._wait(target, request, head), body)

    def _wait(self, target: WebTarget, request: Request, head: Head) -> CallWait:
        """The call that the request becomes; raises RefusedError (429) if too many of them wait."""
        if not self._shared.count_in(target):
            raise refusal(429, "Too many requests wait for this function.", RETRY)
        trace = None
        if head.trace:
            trace = trace_of(head.trace.decode("latin-1"), head.trace_state.decode("latin-1"))
        return CallWait(self._shared, target, request.pack(), trace)

    def _request(
        self,
        protocol: Protocol,
        scope: Any,
        head: Head,
        match: Match,
        inline: bytes = b"",
        body: RequestBody | None = None,
    ) -> Request:
        return Request(
            protocol,
            scope.get("method", "GET"),
            head.scheme,
            scope["http_version"],
            match.raw_path,
            scope["query_string"],
            match.root_path,
            head.headers,
            head.client,
            scope["server"],
            self._shared.inbox.name,
            inline,
            body is not None and body.has_more,
        )

    async def _websocket(self, scope: Any, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        await receive()  # that the client wants to connect
        counting = None if self.figures is None else Counting(self.figures, send)
        peer = WebsocketPeer(receive, send if counting is None else counting.send)
        head: Head | None = None
        try:
            head = read_head(scope, self._proxies)
            peer.request_id = head.request_id
            await self._answer_websocket(scope, head, peer)
        except (ClientLeftError, OSError):  # uvicorn raises the latter
            pass
        except (Error, TimeoutError, asyncio.CancelledError) as error:
            await peer.instead(_refused(error).response, INTERNAL_ERROR)
        except Exception as error:
            emit(GATEWAY_DEFECT, error, what="a websocket was not served as it should be")
            await peer.instead(DEFECT, INTERNAL_ERROR)
        finally:
            if counting is not None:
                counting.end(peer.function, peer.status)
            if self._log is not None:
                self._say(scope, head, "WEBSOCKET", peer, began)

    async def _answer_websocket(self, scope: Any, head: Head, peer: WebsocketPeer) -> None:
        match = await self._router.find(head.host, scope["raw_path"])
        if match is None:
            await peer.refuse(plain(404, NOWHERE))
            return
        peer.function = match.endpoint.function
        if match.endpoint.web.requires_proxy_auth:
            await self._auth.check(head)
        target = match.endpoint.target(scope["query_string"])
        request = self._request("websocket", scope, head, match)
        await WebsocketExchange(self._wait(target, request, head)).run(peer)

    def _say(
        self,
        scope: Any,
        head: Head | None,
        method: str,
        peer: HttpPeer | WebsocketPeer,
        began: float,
    ) -> None:
        if self._log is not None:
            client = scope["client"] if head is None else head.client
            path, version = scope["raw_path"].decode("latin-1"), scope["http_version"]
            self._log.add(Entry(client, method, path, version, peer, time.monotonic() - began))


def _refused(error: BaseException) -> RefusedError:
    """What is answered where this was raised."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, asyncio.CancelledError):  # the gateway stops, and has given it its time
        return RefusedError(STOPS, closes=True)
    return RefusedError(unavailable())
