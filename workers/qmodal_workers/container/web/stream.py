"""The container's inbox, opened with the first request that needs one, and the streams of its requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from qmodal.client.client import Client
from qmodal.client.inbox import Inbox
from qmodal.client.web_stream import WebStream
from qmodal.exception import Error
from qmodal.wire.web import Message

log = logging.getLogger("qmodal")
CLOSE_SECONDS = 2.0


class RequestStream(WebStream):
    """The container's side of a request's stream; `on_left` is called once nobody is on the other side."""

    def __init__(
        self, inbox: Inbox, stream: str, *, origin: str, peer: str, on_left: Callable[[], None]
    ) -> None:
        super().__init__(inbox, stream, origin=origin, peer=peer)
        self._on_left = on_left
        self.send_now("open", inbox.name)

    def receive(self, message: Message) -> None:
        """Take a message of the inbox."""
        super().receive(message)
        if message.kind == "gone" and message.origin == self.origin:
            self._on_left()

    def lost(self) -> None:
        """Take in that the gateway is gone, or that messages of it are missing."""
        super().lost()
        self._on_left()


class Streams:
    """Makes the streams of a container's requests, in the loop of user code."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox: Inbox | None = None
        self._ensuring = asyncio.Lock()

    async def open(
        self, stream: str, *, origin: str, peer: str, on_left: Callable[[], None]
    ) -> RequestStream:
        """A stream to the gateway's inbox `peer`; raises Error if the server cannot be reached."""
        inbox = self._inbox
        if inbox is None or not inbox.is_sure:
            inbox = await self._ensured()
        return RequestStream(inbox, stream, origin=origin, peer=peer, on_left=on_left)

    async def _ensured(self) -> Inbox:
        async with self._ensuring:
            if self._inbox is None:
                self._inbox = Inbox(self._client)
            await self._inbox.ensure()
            return self._inbox

    async def close(self) -> None:
        """Read and write nothing any more."""
        inbox, self._inbox = self._inbox, None
        if inbox is None:
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await inbox.close()
        except (Error, TimeoutError) as error:
            log.debug("the inbox is left to its end: %s", error)
