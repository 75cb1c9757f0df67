"""Learned start times of pools, written where the autoscaler reads them."""

from __future__ import annotations

import asyncio
import contextlib

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal_workers.spawn.bounded_dict import BoundedDict

WEIGHT = 0.5
MOST_POOLS = 4096


class StartTimes:
    """A moving mean of the seconds that a container takes to become ready, for each pool."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._means: BoundedDict[str, float] = BoundedDict(MOST_POOLS)
        self._writing: set[asyncio.Task[None]] = set()

    def learn(self, pool: str, seconds: float) -> None:
        """Take one more start into account."""
        mean = self._means.get(pool, seconds)
        mean += WEIGHT * (seconds - mean)
        self._means[pool] = mean
        task = asyncio.create_task(self._write(pool, mean))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write(self, pool: str, mean: float) -> None:
        with contextlib.suppress(Error):
            observing = self._client.observing
            await self._client.aio(observing.learned(pool, start_time=mean))
