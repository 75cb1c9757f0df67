"""Hear hints at once: assignments changed, an input was cancelled. The truth is read elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from qmodal.client import Client
from qmodal.exception import Error
from qmodal.store.aio import AsyncLine
from qmodal.store.exchange import Reply
from qmodal.store.line import LOST, Address

PING_SECONDS = 2.0
RECONNECT_SECONDS = 0.5


class Nudges:
    """Subscribes to the worker's channel on a connection of its own."""

    def __init__(
        self,
        client: Client,
        worker: str,
        *,
        assigned: Callable[[], None],
        cancelled: Callable[[str, str], None],
        killed: Callable[[str, str], None],
    ) -> None:
        self._address = Address(client.settings.redis_url or "")
        self._channel = client.keys.nudge(worker)
        self._assigned = assigned
        self._of_input = {"cancelled": cancelled, "killed": killed}

    async def listen(self) -> None:
        """Listen for ever; after a loss of the connection everything is looked at again."""
        while True:
            line = AsyncLine(self._address)
            try:
                await line.connect()
                await self._hear(line)
            except (*LOST, Error):
                await asyncio.sleep(RECONNECT_SECONDS)
            finally:
                await line.close()

    async def _hear(self, line: AsyncLine) -> None:
        await line.write(((b"SUBSCRIBE", self._channel),))
        pings = asyncio.create_task(_ping(line))
        try:
            while True:
                self._act(await line.read())
        finally:
            pings.cancel()

    def _act(self, reply: Reply) -> None:
        if isinstance(reply, Exception):
            raise Error(str(reply))
        match reply:
            case [b"subscribe", *_]:
                self._assigned()
            case [b"message", _, bytes(text)]:
                self._obey(text.decode(errors="replace").split(" "))
            case _:  # a pong
                pass

    def _obey(self, words: list[str]) -> None:
        if words == ["assigned"]:
            self._assigned()
        elif len(words) == 3 and words[0] in self._of_input:
            self._of_input[words[0]](words[1], words[2])


async def _ping(line: AsyncLine) -> None:
    """So that a silent channel can be told from a lost connection, whose read then times out."""
    with contextlib.suppress(*LOST):
        while True:
            await asyncio.sleep(PING_SECONDS)
            await line.write(((b"PING",),))
