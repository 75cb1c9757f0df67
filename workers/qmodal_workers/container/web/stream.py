"""The container's inbox, opened with the first request that needs one, and the streams of its requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from qmodal.client.client import Client
from qmodal.client.inbox import Inbox
from qmodal.client.web_stream import WebStream
from qmodal.exception import Error
from qmodal.wire.web import Message

log = logging.getLogger("qmodal")
CLOSE_SECONDS = 2.0
# A response is kept back so long after the first part of its body, as it may be whole by then.
KEEP_SECONDS = 0.005


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


class Kept(Protocol):
    """A response that is kept back, as it may soon be whole."""

    loop: asyncio.AbstractEventLoop

    def flush_soon(self) -> object:
        """Keep nothing back any more."""


class KeptResponses:
    """Flushes each response KEEP_SECONDS after it was added, with one timer for all: most are whole before that."""

    def __init__(self) -> None:
        self._due: dict[Kept, float] = {}  # the first one first
        self._has_timer = False

    def add(self, response: Kept) -> None:
        """Flush it, unless it is discarded first."""
        loop = response.loop
        self._due[response] = loop.time() + KEEP_SECONDS
        if not self._has_timer:
            self._has_timer = True
            loop.call_later(KEEP_SECONDS, self._look, loop)

    def discard(self, response: Kept) -> None:
        """It needs to be flushed no more."""
        self._due.pop(response, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._has_timer = False
        now = loop.time()
        for response, due in list(self._due.items()):
            if due > now:
                self._has_timer = True
                loop.call_at(due, self._look, loop)
                return
            del self._due[response]
            response.flush_soon()


class Streams:
    """Makes the streams of a container's requests, in the loop of user code; `kept` are their kept-back responses."""

    def __init__(self, client: Client) -> None:
        self.kept = KeptResponses()
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
