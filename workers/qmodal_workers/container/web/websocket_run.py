"""The run of an app for a websocket."""

from __future__ import annotations

from typing import Any, Literal

from qmodal.exception import Error, ExecutionError, InputCancellation
from qmodal.wire.web import MOST_WEBSOCKET_BYTES, STREAMED, BrokenStreamError, Request
from qmodal_workers.container.web.asgi_run import AsgiRun, ClientLeftError, Delivery, Event
from qmodal_workers.container.web.stream import RequestStream, Streams

NORMAL, NO_CODE, ABNORMAL, UNEXPECTED, RESTARTS = 1000, 1005, 1006, 1011, 1012
# What frameworks raise in the app to tell it that its client has left.
_GOODBYES = frozenset({"WebSocketDisconnect", "ClientDisconnect", "ClientLeftError"})
State = Literal["new", "asked", "accepted", "refusing", "closed"]


class WebsocketRun(AsgiRun):
    """Passes messages on in both directions, once the app has accepted the websocket."""

    def __init__(self, request: Request, delivery: Delivery, streams: Streams) -> None:
        super().__init__(request, delivery, streams)
        self._state: State = "new"
        self._goodbye: Event | None = None

    async def receive(self) -> Event:
        """The question whether to accept, then messages, and a disconnect at the end."""
        if self._state == "new":
            self._state = "asked"
            return {"type": "websocket.connect"}
        if self._goodbye is None:
            try:
                stream = await self.opened()
                message = await stream.take()
            except BrokenStreamError:
                return self._leaves(ABNORMAL, "")
            if message.kind in {"text", "bytes"}:
                return {"type": "websocket.receive", message.kind: message.data}
            code, reason = message.data if message.kind == "close" else (ABNORMAL, "")
            return self._leaves(code, reason)
        return self._goodbye

    def _leaves(self, code: int, reason: str) -> Event:
        self._goodbye = {
            "type": "websocket.disconnect",
            "code": code or NO_CODE,
            "reason": reason or "",
        }
        return self._goodbye

    async def send(self, event: Event) -> None:
        """Take what the app sends; raises ClientLeftError once the client has left."""
        if self.is_left or self._goodbye is not None:
            raise ClientLeftError
        stream = await self.opened()
        kind = event["type"]
        if self._state in {"new", "asked"}:
            self._answer(stream, kind, event)
        elif self._state == "accepted" and kind == "websocket.send":
            await self._pass_on(stream, event)
        elif self._state == "accepted" and kind == "websocket.close":
            self._close(stream, event)
        elif self._state == "refusing" and kind == "websocket.http.response.body":
            await self._refuse(stream, event)
        else:
            raise RuntimeError(f"the ASGI app has sent {kind!r}, which is not its turn")

    def _answer(self, stream: RequestStream, kind: str, event: Event) -> None:
        headers = [[bytes(name), bytes(value)] for name, value in event.get("headers") or ()]
        if kind == "websocket.accept":
            self._state = "accepted"
            stream.send_now("accept", [event.get("subprotocol"), headers])
        elif kind == "websocket.close":
            self._close(stream, event)
        elif kind == "websocket.http.response.start":
            self._state = "refusing"
            stream.send_now("start", [int(event["status"]), headers])
        else:
            raise RuntimeError(f"the ASGI app has sent {kind!r} before it accepted the websocket")

    def _close(self, stream: RequestStream, event: Event) -> None:
        self._state = "closed"
        stream.send_now("close", [int(event.get("code") or NORMAL), event.get("reason") or ""])

    async def _pass_on(self, stream: RequestStream, event: Event) -> None:
        text = event.get("text")
        data: Any = event.get("bytes") if text is None else text
        # To encode also finds what no client could be sent.
        size = len(data if text is None else text.encode())
        if size > MOST_WEBSOCKET_BYTES:
            raise ValueError(
                f"a websocket message takes {size} bytes, and the limit is {MOST_WEBSOCKET_BYTES}; "
                "send it in parts"
            )
        try:
            await stream.send(
                "bytes" if text is None else "text", bytes(data) if text is None else data
            )
        except BrokenStreamError:
            raise ClientLeftError from None

    async def _refuse(self, stream: RequestStream, event: Event) -> None:
        try:
            if body := event.get("body"):
                await stream.send("body", bytes(body))
        except BrokenStreamError:
            raise ClientLeftError from None
        if not event.get("more_body", False):
            self._state = "closed"
            stream.send_now("end")

    async def result(self) -> bytes:
        """That it was streamed; raises what the app raised, unless that says that the client has left."""
        error = self.error
        if self.is_left:
            raise InputCancellation from None
        if error is not None and type(error).__name__ in _GOODBYES:
            error = None
        if error is None and self._goodbye is None and self._state in {"new", "asked", "refusing"}:
            error = ExecutionError("the ASGI app has returned without an answer to the websocket")
        await self._end(NORMAL if error is None else UNEXPECTED)
        if error is not None:
            raise error
        return STREAMED.pack()

    async def stopped(self) -> bytes:
        """Tell the client that its container is stopped, and that it may connect again."""
        await self._end(RESTARTS)
        return STREAMED.pack()

    async def _end(self, code: int) -> None:
        if self.stream is None:
            return
        try:
            if self._state == "accepted" and self._goodbye is None:
                self._close(self.stream, {"code": code})
            await self.stream.flush()
        except Error:
            self.leave()
