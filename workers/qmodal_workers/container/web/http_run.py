"""The run of an app for an HTTP request: its response is one result if it is small and quick, else it is streamed."""

from __future__ import annotations

import asyncio

from qmodal.exception import Error, ExecutionError, InputCancellation
from qmodal.wire.remote_error import printed
from qmodal.wire.web import (
    PART_BYTES,
    STREAMED,
    WHOLE_BYTES,
    BrokenStreamError,
    Header,
    Message,
    Request,
    Response,
)
from qmodal_workers.container.process.own_output import show
from qmodal_workers.container.web.asgi_run import AsgiRun, ClientLeftError, Delivery, Event
from qmodal_workers.container.web.stream import RequestStream, Streams

# A response is kept back so long (seconds) after the first part of its body, as it may be whole by then.
KEEP_SECONDS = 0.005


class HttpRun(AsgiRun):
    """Gives the app the body of its request, and keeps its response back until it is whole, large or late."""

    def __init__(self, request: Request, delivery: Delivery, streams: Streams) -> None:
        super().__init__(request, delivery, streams)
        self._is_read = False
        self._inline = request.body
        self._status = 0
        self._headers: list[Header] = []
        self._parts: list[bytes] = []
        self._size = 0
        self._is_complete = False
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None

    async def receive(self) -> Event:
        """The next part of the body, then a disconnect once the client has left, or has its whole response."""
        if self._is_read or self.is_left or self._is_complete:
            if not self._is_complete:
                await self.until_left()
            return {"type": "http.disconnect"}
        body, self._inline = self._inline, b""
        if not self.request.has_more:
            self._is_read = True
            return {"type": "http.request", "body": body, "more_body": False}
        if body:
            return {"type": "http.request", "body": body, "more_body": True}
        message = await self._next()
        if message is None or message.kind == "gone":
            return {"type": "http.disconnect"}
        self._is_read = message.kind == "end"
        body = b"" if self._is_read else message.data
        return {"type": "http.request", "body": body, "more_body": not self._is_read}

    async def _next(self) -> Message | None:
        try:
            stream = await self.opened()
            return await stream.take()
        except BrokenStreamError:
            self.leave()
            return None

    async def send(self, event: Event) -> None:
        """Take the start of the response, or a part of its body; waits while the client takes no more."""
        if self.is_left:
            raise ClientLeftError
        kind = event["type"]
        if kind == "http.response.body" and self._status and not self._is_complete:
            body = event.get("body", b"")
            if not event.get("more_body", False):
                self._is_complete = True
                self.wake()
            if self.request.method == "HEAD":
                body = b""
            await self._take(body if type(body) is bytes else bytes(body))
        elif kind == "http.response.start" and not self._status:
            self._headers = [
                (bytes(name), bytes(value)) for name, value in event.get("headers", ())
            ]
            self._status = int(event["status"])
        else:
            raise RuntimeError(f"the ASGI app has sent {kind!r}, which is not its turn")

    async def _take(self, body: bytes) -> None:
        flushing = self._flushing
        if flushing is not None and flushing.done():
            await self._pass_on(body)
            return
        if body:
            self._parts.append(body)
            self._size += len(body)
        if flushing is None and self._size <= WHOLE_BYTES:
            if self._timer is None:
                self._timer = self.loop.call_later(KEEP_SECONDS, self._flush_soon)
            return
        await asyncio.wait([self._flush_soon()])
        if self.is_left:
            raise ClientLeftError

    def _flush_soon(self) -> asyncio.Task[None]:
        if self._flushing is None:
            self._flushing = self.loop.create_task(self._flush())
        return self._flushing

    async def _flush(self) -> None:
        """Send what was kept back, in order; what the app sends meanwhile is kept back, too."""
        try:
            stream = await self.opened()
            stream.send_now("start", [self._status, self._headers])
            while self._parts:
                await self._put(stream, self._parts.pop(0))
            if self._is_complete:
                stream.send_now("end")
        except Error:  # nobody can be told: neither is there a way, nor anybody at its end
            self.leave()

    async def _pass_on(self, body: bytes) -> None:
        stream = self.stream
        try:
            if stream is None:
                raise BrokenStreamError("the stream was not opened")
            await self._put(stream, body)
            if self._is_complete:
                stream.send_now("end")
        except BrokenStreamError:
            self.leave()
            raise ClientLeftError from None

    async def _put(self, stream: RequestStream, body: bytes) -> None:
        if len(body) <= PART_BYTES:
            if body:
                await stream.send("body", body)
            return
        for at in range(0, len(body), PART_BYTES):
            await stream.send("body", body[at : at + PART_BYTES])

    async def result(self) -> bytes:
        """The whole response, or that it was streamed; raises what the app raised before it had sent one."""
        if self._timer is not None:
            self._timer.cancel()
        if self._flushing is not None:
            await asyncio.wait([self._flushing])
        if self.is_left:
            raise InputCancellation from None
        if self.error is not None:
            self._judge(self.error)
        elif not self._is_complete:
            what = "no whole response" if self._status else "no response"
            raise ExecutionError(f"the ASGI app has returned, and has sent {what}")
        if self._flushing is None:
            return Response(self._status, self._headers, b"".join(self._parts)).pack()
        if self.stream is not None:
            await self.stream.flush()
        return STREAMED.pack()

    def _judge(self, error: BaseException) -> None:
        """Raise it, unless the app has answered before: with an error page, as frameworks do."""
        if not self._is_complete or self._flushing is not None or not isinstance(error, Exception):
            raise error
        show(printed(error))

    def close(self) -> None:
        """Nothing of it matters any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._flushing is not None:
            self._flushing.cancel()
        super().close()
