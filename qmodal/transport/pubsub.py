"""Listen to a channel of hints on a connection of its own; the truth is read elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from qmodal.exception import Error
from qmodal.transport.aio_connection import AsyncConnection
from qmodal.transport.connection import LOST, Address
from qmodal.transport.defects import survive
from qmodal.transport.operation import Reply

# A read that brings nothing for 8 s counts as a lost connection; a pong comes before that.
PING_SECONDS = 4.0
RESUBSCRIBE_SECONDS = 0.5
Hear = Callable[[str | None], None]


async def listen(address: Address, channel: str, hear: Hear) -> None:
    """Tell `hear` every message, for ever; None at each (re)subscription: look at everything."""
    while True:
        connection = AsyncConnection(address)
        try:
            await connection.connect()
            await _follow(connection, channel, hear)
        except (*LOST, Error):
            await asyncio.sleep(RESUBSCRIBE_SECONDS)
        finally:
            await connection.close()


async def _follow(connection: AsyncConnection, channel: str, hear: Hear) -> None:
    await connection.write(((b"SUBSCRIBE", channel),))
    pings = asyncio.create_task(_ping(connection), name="ping")
    try:
        while True:
            _pass_on(await connection.read(), hear)
    finally:
        pings.cancel()


def _pass_on(reply: Reply, hear: Hear) -> None:
    match reply:
        case Exception():
            raise Error(str(reply))
        case [b"subscribe", *_]:
            _tell(hear, None)
        case [b"message", _, bytes(text)]:
            _tell(hear, text.decode(errors="replace"))
        case _:  # a pong
            pass


def _tell(hear: Hear, text: str | None) -> None:
    # Anybody may publish: what one message leads to must not cost those that come after it.
    with survive("hearing a message"):
        hear(text)


async def _ping(connection: AsyncConnection) -> None:
    """So that a silent channel can be told from a lost connection, whose read then times out."""
    with contextlib.suppress(*LOST):
        while True:
            await asyncio.sleep(PING_SECONDS)
            await connection.write(((b"PING",),))
