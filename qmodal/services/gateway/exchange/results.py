"""Result pages: where the client of a long request is sent, and where it gets the response in the end."""

from __future__ import annotations

import asyncio
import hmac

from qmodal.services.gateway.exchange.calls import Ended, later_outcome
from qmodal.services.gateway.exchange.http import HttpExchange
from qmodal.services.gateway.exchange.peer import HttpPeer
from qmodal.services.gateway.exchange.responses import plain
from qmodal.services.gateway.routing.endpoint import Endpoint
from qmodal.services.gateway.shared import Shared
from qmodal.wire.ids import is_call_id
from qmodal.wire.web import Response

PARAMETER = b"__qmodal_result="
# A response that is streamed, and that nobody fetches, is given up after so many seconds.
KEEP_SECONDS = 3600.0
UNKNOWN = plain(404, "There is no such result.")
BUSY = plain(409, "Another request gets this result.")
ELSEWHERE = plain(410, "This response is streamed, by the gateway that has got the request.")


class Results:
    """The requests whose clients were sent to result pages, as long as their responses are not there.

    A response that is whole stays on the server, where any gateway finds it.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._kept: dict[str, HttpExchange] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}

    async def redirect(
        self, exchange: HttpExchange, endpoint: Endpoint, peer: HttpPeer, path: bytes
    ) -> None:
        """Send the client to the result page, and keep what it will ask for."""
        call = exchange.wait.call
        self._kept[call] = exchange
        self._watches[call] = self._shared.loop.create_task(self._watch(exchange))
        await peer.answer(self._see(call, endpoint, path))

    def _see(self, call: str, endpoint: Endpoint, path: bytes) -> Response:
        token = f"{call}.{self._signature(call, endpoint)}".encode()
        # A path that begins with two slashes would be taken for a host.
        same_path = b"" if path.startswith(b"//") else path
        location = same_path + b"?" + PARAMETER + token
        return Response(303, [(b"location", location), (b"cache-control", b"no-store")], b"")

    def _signature(self, call: str, endpoint: Endpoint) -> str:
        """Nobody guesses another one's result, or fetches it where other tokens are asked for."""
        route = endpoint.route
        text = "\0".join(("result", route.app_id, route.tag, route.method, call))
        return self._shared.client.signer.sign_large(text.encode())[4:20].hex()

    async def answer(self, endpoint: Endpoint, query: bytes, peer: HttpPeer, path: bytes) -> None:
        """Answer a request of a result page."""
        call, _, signature = query.removeprefix(PARAMETER).decode("latin-1").partition(".")
        if not is_call_id(call) or not hmac.compare_digest(
            signature.encode("latin-1"), self._signature(call, endpoint).encode()
        ):
            await peer.answer(UNKNOWN)
            return
        exchange = self._kept.pop(call, None)
        if exchange is not None:
            self._watches.pop(call).cancel()
            if not await exchange.go_on(peer):
                await self.redirect(exchange, endpoint, peer, path)
        elif call in self._shared.exchanges:
            await peer.answer(BUSY)
        else:
            await self._fetch(call, endpoint, peer, path)

    async def _fetch(self, call: str, endpoint: Endpoint, peer: HttpPeer, path: bytes) -> None:
        """Answer with the outcome on the server, as soon as it is there."""
        loop = self._shared.loop
        deadline = loop.time() + self._shared.options.redirect_after
        client, cursor = self._shared.client, b"0"
        ended: Ended | None = None
        peer.connection.on_lost(peer.left)
        while ended is None and loop.time() < deadline and not peer.has_left:
            cursor, ended = await client.aio(later_outcome(client, call, cursor))
        if ended is None:
            await peer.answer(self._see(call, endpoint, path))
        else:
            await peer.answer(ELSEWHERE if ended.is_streamed else ended.response)

    async def _watch(self, exchange: HttpExchange) -> None:
        """Until the response is on the server, or nobody has asked for it for too long."""
        wait, loop = exchange.wait, self._shared.loop
        ends = loop.time() + KEEP_SECONDS
        while loop.time() < ends:
            if wait.ended is not None and not wait.ended.is_streamed and wait.stream is None:
                self._forget(wait.call)
                wait.keep()
                return
            await wait.news(ends)
        self._forget(wait.call)
        wait.finish(is_delivered=False)

    def _forget(self, call: str) -> None:
        self._kept.pop(call, None)
        self._watches.pop(call, None)

    def close(self) -> None:
        """Leave the calls to the server."""
        for task in self._watches.values():
            task.cancel()
