"""What all requests of a gateway share: the client, the inbox, the requests under way, and work in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from qmodal.client.client import Client
from qmodal.client.inbox import Inbox
from qmodal.exception import Error
from qmodal.services.gateway.options import GatewayOptions
from qmodal.services.gateway.routing.endpoint import WebTarget
from qmodal.telemetry.events import GATEWAY_TROUBLE, emit
from qmodal.wire.web import Message

# What a gateway that ends leaves to work in the background, such as cancelling what nobody waits for.
FINISH_SECONDS = 2.0


class Opened(Protocol):
    """A request under way, to which a container may open a stream."""

    def opened(self, message: Message) -> None:
        """Take the first message of an attempt that streams."""


class Shared:
    """One for each gateway, made in its loop.

    `exchanges`: the requests under way by their call ids, until a stream of theirs takes its messages itself.
    """

    def __init__(self, client: Client, options: GatewayOptions) -> None:
        self.client = client
        self.options = options
        self.loop = asyncio.get_running_loop()
        self.driver = client.loops.driver()
        self.inbox = Inbox(client, self._unknown)
        self.exchanges: dict[str, Opened] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it while nobody waits; an error of the server's is a line in the log."""
        task = self.loop.create_task(self._survived(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _survived(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Error as error:
            emit(GATEWAY_TROUBLE, activity="work in the background failed", reason=str(error))

    def count_in(self, target: WebTarget) -> bool:
        """Count a request of the pool; False if so many of them wait that this one may not."""
        load = target.load
        if load.is_due(self.loop.time()):
            load.is_looking = True
            self.in_background(self._look(target))
        if load.waiting >= self.options.queue:
            return False
        load.open += 1
        return True

    async def _look(self, target: WebTarget) -> None:
        load = target.load
        try:
            (seen,) = await self.client.aio(self.client.observing.observe([target.pool]))
            load.look(seen)
        finally:
            load.looked_at = self.loop.time()
            load.is_looking = False

    def _unknown(self, message: Message) -> None:
        """Take a message of a request that has no stream yet, or that nobody waits for any more."""
        exchange = self.exchanges.get(message.stream)
        if message.kind != "open" or message.number:
            return
        if exchange is not None:
            exchange.opened(message)
            return
        gone = Message(message.stream, message.origin, 0, "gone")
        self.inbox.send(str(message.data), gone, _NOBODY)

    async def close(self) -> None:
        """End what runs in the background, once it has had its time, and the inbox."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=FINISH_SECONDS)
        for task in list(self._tasks):
            task.cancel()
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                await self.inbox.close()
        except (Error, TimeoutError) as error:
            emit(GATEWAY_TROUBLE, activity="the inbox could not be removed", reason=str(error))


class _Nobody:
    """The sender of what nobody needs to know the fate of."""

    def receive(self, message: Message) -> None:
        """Nothing is expected."""

    def lost(self) -> None:
        """The other side is gone, too."""


_NOBODY = _Nobody()
