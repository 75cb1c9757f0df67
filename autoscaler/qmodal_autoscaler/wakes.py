"""Hear at once that a pool needs a look. The truth is read elsewhere, every second."""

from __future__ import annotations

import asyncio
import contextlib

from qmodal.client import Client
from qmodal.exception import Error
from qmodal.store.aio import AsyncLine
from qmodal.store.exchange import Reply
from qmodal.store.line import LOST, Address
from qmodal_autoscaler.due import Due

# A read that brings nothing for 8 s counts as a lost connection; a pong comes before that.
PING_SECONDS = 4.0
RECONNECT_SECONDS = 0.5


class Wakes:
    """Subscribes to the wake channel on a connection of its own."""

    def __init__(self, client: Client, due: Due) -> None:
        self._address = Address(client.settings.redis_url or "")
        self._channel = client.keys.wake
        self._due = due

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
        pings = asyncio.create_task(_ping(line), name="ping")
        try:
            while True:
                self._act(await line.read())
        finally:
            pings.cancel()

    def _act(self, reply: Reply) -> None:
        match reply:
            case Exception():
                raise Error(str(reply))
            case [b"message", _, bytes(pool)] if pool:
                self._due.wake(pool.decode(errors="replace"))
            case [b"subscribe" | b"message", *_]:
                self._due.everything()
            case _:  # a pong
                pass


async def _ping(line: AsyncLine) -> None:
    with contextlib.suppress(*LOST):
        while True:
            await asyncio.sleep(PING_SECONDS)
            await line.write(((b"PING",),))
