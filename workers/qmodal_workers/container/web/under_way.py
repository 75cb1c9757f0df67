"""The requests that are under way in a container, and one look for all of them at whether their gateways live."""

from __future__ import annotations

import asyncio
import logging

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.store.web.inboxes import Inboxes
from qmodal_workers.container.web.asgi_run import AsgiRun

log = logging.getLogger("qmodal")
LOOK_SECONDS = 3.0
# Cancelled apps have so long to end.
GIVE_UP_SECONDS = 3.0
# A gateway whose inbox was lost in a failover makes it again before the second look.
MOST_MISSES = 2


class UnderWay:
    """Looks at gateways while there are requests; those of a gateway that is gone are given up."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inboxes = Inboxes(client.keys)
        self._runs: set[AsgiRun] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.Task[None] | None = None
        self._misses: dict[str, int] = {}

    def add(self, run: AsgiRun) -> None:
        """This one begins."""
        self._runs.add(run)
        if self._timer is None:
            self._timer = run.loop.call_later(LOOK_SECONDS, self._begin_look, run.loop)

    def remove(self, run: AsgiRun) -> None:
        """This one has ended."""
        self._runs.discard(run)

    def _begin_look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nobody looks in a loop without requests: the timer is set anew with the next one."""
        self._timer = None
        if self._runs:
            self._timer = loop.call_later(LOOK_SECONDS, self._begin_look, loop)
            if self._look is None or self._look.done():
                self._look = loop.create_task(self._look_now())

    async def _look_now(self) -> None:
        names = sorted({run.request.inbox for run in self._runs})
        try:
            living = await self._client.aio(self._inboxes.exists(names))
        except Error as error:  # a server that is away says nothing about gateways
            log.debug("the gateways cannot be looked at: %s", error)
            return
        self._misses = {
            name: self._misses.get(name, 0) + 1
            for name, is_there in zip(names, living, strict=True)
            if not is_there
        }
        for run in list(self._runs):
            if self._misses.get(run.request.inbox, 0) >= MOST_MISSES:
                run.give_up_soon(GIVE_UP_SECONDS)
