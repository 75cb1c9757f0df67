"""One websocket: its handshake answered by the container, and messages passed on in both directions."""

from __future__ import annotations

import asyncio
from typing import Any

from qmodal.exception import Error
from qmodal.services.gateway.exchange.body import ClientLeftError
from qmodal.services.gateway.exchange.call_wait import CallWait
from qmodal.services.gateway.exchange.calls import Ended
from qmodal.services.gateway.exchange.peer import Receive, Send
from qmodal.services.gateway.exchange.responses import (
    BadResponseError,
    RefusedError,
    checked_headers,
    checked_status,
    is_token,
    plain,
    without_length,
)
from qmodal.services.gateway.exchange.stream import GatewayStream
from qmodal.wire.web import BrokenStreamError, Header, Message, Response

# Codes of RFC 6455: what the server cannot do, and what may succeed a little later.
INTERNAL_ERROR, TRY_AGAIN = 1011, 1013
# A function whose client has closed the websocket is left so many seconds to end by itself.
LEAVE_SECONDS = 10.0
MOST_REASON = 123
# What an app that refuses a websocket may say.
MOST_REFUSAL_BYTES = 1024 * 1024
LOST = plain(502, "The container of the websocket was lost.")


class WebsocketPeer:
    """The client of one websocket; `status` is what its handshake was answered with, 0 before that."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.receive = receive
        self.request_id = b""
        self.function = ("", "", "")  # environment, app and function, once it is known
        self.status = 0
        self.sent = 0
        self._send = send

    async def accept(self, subprotocol: str | None, headers: list[Header]) -> None:
        """Accept the handshake; raises BadResponseError before it sends anything."""
        if subprotocol is not None and not is_token(subprotocol):
            raise BadResponseError(f"a websocket has no subprotocol {subprotocol!r}")
        self.status = 101
        headers = [*headers, (b"x-request-id", self.request_id)]
        await self._send(
            {"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers}
        )

    async def refuse(self, response: Response) -> None:
        """Answer the handshake with a response; raises BadResponseError before it sends anything."""
        status = checked_status(response.status)
        headers = without_length(checked_headers(response.headers))
        headers.append((b"x-request-id", self.request_id))
        self.status = status
        self.sent = len(response.body)
        kind = "websocket.http.response"
        await self._send({"type": f"{kind}.start", "status": status, "headers": headers})
        await self._send({"type": f"{kind}.body", "body": response.body})

    async def pass_on(self, message: Message) -> None:
        """Send a message of the container's; raises BadResponseError for one that is none."""
        kind, data = message.kind, message.data
        if (kind == "text" and type(data) is str) or (kind == "bytes" and type(data) is bytes):
            self.sent += len(data)
            await self._send({"type": "websocket.send", kind: data})
        else:
            raise BadResponseError(f"a websocket has no message {kind!r}")

    async def close(self, code: int, reason: str) -> None:
        """End the websocket."""
        if not (code == 1000 or 3000 <= code <= 4999 or 1001 <= code <= 1014) or code in (
            1004,
            1005,
            1006,
        ):
            code = INTERNAL_ERROR
        short = reason.encode()[:MOST_REASON].decode(errors="ignore")
        await self._send({"type": "websocket.close", "code": code, "reason": short})

    async def instead(self, response: Response, code: int) -> None:
        """Say what the gateway has to say: by a response, or by the end of a websocket that was accepted."""
        if self.status:
            text = response.body.decode(errors="replace").partition("\n")[0]
            await self.close(code, text if response.status else "")
            return
        try:
            await self.refuse(response)
        except BadResponseError:
            await self.refuse(LOST)


class WebsocketExchange:
    """A websocket and its call."""

    def __init__(self, wait: CallWait) -> None:
        self.wait = wait
        self._pump: asyncio.Task[None] | None = None
        self._is_over = False

    async def run(self, peer: WebsocketPeer) -> None:
        """Pass messages on until either side closes."""
        wait, is_delivered = self.wait, False
        # The client's end is known from what is received of it; before that it has to be waited for.
        self._pump = wait.shared.loop.create_task(self._pump_messages(peer))
        try:
            await self._answer(peer)
            is_delivered = True
        except ClientLeftError:
            is_delivered = await self._left()
        except RefusedError as refused:
            await peer.instead(refused.response, TRY_AGAIN)
        except (BrokenStreamError, BadResponseError):
            await peer.instead(LOST, INTERNAL_ERROR)
        finally:
            self._is_over = True
            self._pump.cancel()
            wait.finish(is_delivered=is_delivered)

    async def _answer(self, peer: WebsocketPeer) -> None:
        wait = self.wait
        found: Message | Ended | None = await wait.first()
        while True:
            if found is None:
                await wait.news()
            elif isinstance(found, Ended):
                await peer.instead(found.response, INTERNAL_ERROR)
                return
            elif await self._is_last(peer, found):
                return
            found = wait.look()

    async def _is_last(self, peer: WebsocketPeer, message: Message) -> bool:
        """Do what the message says; whether nothing follows it."""
        wait = self.wait
        wait.is_replaceable = False
        if peer.status:
            if message.kind == "close":
                await peer.close(*_close_of(message))
                return True
            await peer.pass_on(message)
            return False
        if message.kind == "accept":
            subprotocol, headers = _pair(message)
            await peer.accept(subprotocol, checked_headers(headers))
            wait.wake()
            return False
        if message.kind == "start":
            await peer.refuse(await self._refusal(message))
        else:
            await peer.refuse(plain(403, "The function has refused the websocket."))
        return True

    async def _refusal(self, start: Message) -> Response:
        """The response that the app gives instead of a websocket."""
        status, headers = _pair(start)
        body = bytearray()
        while True:
            found = self.wait.look()
            if found is None:
                await self.wait.news()
            elif isinstance(found, Ended) or found.kind != "body":
                return Response(status, headers, bytes(body))
            else:
                body += found.data
                if len(body) > MOST_REFUSAL_BYTES:
                    raise BadResponseError("it is too large to refuse a websocket with")

    async def _pump_messages(self, peer: WebsocketPeer) -> None:
        """Pass on what the client sends, once the function has accepted; find out that it leaves at any time."""
        wait = self.wait
        try:
            while True:
                message: Any = await peer.receive()
                kind = message["type"]
                if kind == "websocket.disconnect":
                    self._say_closed(message)
                    wait.client_left()
                    return
                if kind == "websocket.receive":
                    await self._send(message)
        except BrokenStreamError:
            return
        except Error as error:
            wait.fail(error)

    async def _send(self, message: Any) -> None:
        stream: GatewayStream | None = self.wait.stream
        if stream is None:
            raise BrokenStreamError("nobody takes messages")
        stream.has_sent = True
        text = message.get("text")
        if text is not None:
            await stream.send("text", text)
        else:
            await stream.send("bytes", message["bytes"])

    def _say_closed(self, message: Any) -> None:
        stream = self.wait.stream
        if stream is not None and not stream.is_broken and not self._is_over:
            stream.send_now("close", [message.get("code") or 1005, message.get("reason") or ""])

    async def _left(self) -> bool:
        """After the client has left: whether the function has ended by itself in time."""
        wait = self.wait
        if wait.stream is None:
            return False
        wait.has_left = False
        loop = wait.shared.loop
        ends = loop.time() + LEAVE_SECONDS
        while wait.ended is None and wait.failure is None and loop.time() < ends:
            await wait.news(ends)
        return wait.ended is not None


def _pair(message: Message) -> tuple[Any, Any]:
    data = message.data
    if type(data) is not list or len(data) != 2:
        raise BadResponseError(f"a message {message.kind!r} is of another shape")
    return data[0], data[1]


def _close_of(message: Message) -> tuple[int, str]:
    code, reason = _pair(message)
    return (code if type(code) is int else 1000), (reason if type(reason) is str else "")
