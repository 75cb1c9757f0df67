"""How long containers of a pool take to become ready, kept where the autoscaler reads it."""

from __future__ import annotations

import asyncio
import contextlib

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal_workers.spawn.bounded import keep

WEIGHT = 0.5
MOST_POOLS = 4096


class StartTimes:
    """A moving mean per pool."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._means: dict[str, float] = {}
        self._writing: set[asyncio.Task[None]] = set()

    def learn(self, pool: str, seconds: float) -> None:
        """Take one more start into account."""
        mean = self._means.get(pool, seconds)
        mean += WEIGHT * (seconds - mean)
        keep(self._means, pool, mean, most=MOST_POOLS)
        task = asyncio.create_task(self._write(pool, mean))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write(self, pool: str, mean: float) -> None:
        with contextlib.suppress(Error):
            observing = self._client.observing
            await self._client.aio(observing.learned(pool, start_time=mean))
