"""The body of a request: read whole if it is small, else passed on in parts while the container takes them."""

from __future__ import annotations

import asyncio
from typing import Any

from qmodal.services.gateway.exchange.peer import Receive
from qmodal.services.gateway.exchange.responses import refusal
from qmodal.services.gateway.exchange.stream import GatewayStream
from qmodal.services.gateway.head import Head
from qmodal.services.gateway.options import GatewayOptions
from qmodal.wire.web import PART_BYTES, WHOLE_BYTES

# What comes of a body of unknown length within so many seconds goes with the request itself.
GATHER_SECONDS = 0.02


class ClientLeftError(Exception):
    """The client has closed its connection before it got the whole response."""


class RequestBody:
    """Reads a request's body within the limits of the gateway; all methods raise RefusedError and ClientLeftError."""

    __slots__ = ("_options", "_receive", "_size", "has_more")

    def __init__(self, head: Head, receive: Receive, options: GatewayOptions) -> None:
        self._receive = receive
        self._options = options
        self._size = 0
        self.has_more = head.has_body
        if head.length is not None and head.length > options.max_body:
            raise self._too_large()

    async def begin(self, head: Head) -> bytes:
        """What goes with the request itself; `has_more` says whether more of it follows."""
        if head.length is not None and head.length > WHOLE_BYTES:
            return b""
        found = bytearray()
        if head.is_chunked:
            try:
                async with asyncio.timeout(GATHER_SECONDS):
                    await self._gather(found)
            except TimeoutError:
                pass
        else:
            await self._gather(found)
        return bytes(found)

    async def _gather(self, found: bytearray) -> None:
        while self.has_more and len(found) <= WHOLE_BYTES:
            found += await self.read()

    async def read(self) -> bytes:
        """The next part, as soon as it is there."""
        message: Any
        try:
            async with asyncio.timeout(self._options.body_timeout):
                message = await self._receive()
        except TimeoutError:
            raise refusal(408, "The body of the request does not come.", closes=True) from None
        if message["type"] == "http.disconnect":
            raise ClientLeftError
        part: bytes = message.get("body", b"")
        self._size += len(part)
        if self._size > self._options.max_body:
            raise self._too_large()
        self.has_more = message.get("more_body", False)
        return part

    async def pass_on(self, stream: GatewayStream) -> None:
        """Send what is left through the stream, which holds it back; raises BrokenStreamError, too."""
        stream.has_sent = True  # another attempt would wait for what this one gets
        while self.has_more:
            part = await self.read()
            for at in range(0, len(part), PART_BYTES):
                await stream.send("body", part[at : at + PART_BYTES])
        stream.send_now("end")

    def _too_large(self) -> Exception:
        limit = self._options.max_body
        return refusal(413, f"The body of the request has more than {limit} bytes.")
