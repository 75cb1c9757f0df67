"""A worker's share in keeping the fleet: sweeps lost boxes, and promotes retries that are due."""

from __future__ import annotations

import asyncio
import logging

from qmodal.client.client import Client
from qmodal.store.sweeper import Sweeper
from qmodal.transport.defects import survive
from qmodal_workers.agent.containers import ContainerTable

SWEEP_SECONDS = 1.0
PROMOTE_SECONDS = 1.0
log = logging.getLogger("qmodal.worker")


async def sweep(client: Client, worker: str) -> None:
    """Take back what lost boxes held, for ever."""
    sweeper = Sweeper(client.keys, own=worker)
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        with survive("the sweep for lost boxes"):
            for lost in await client.aio(sweeper.sweep()):
                log.warning("%s was lost; what it held is given back", lost)


async def promote(client: Client, containers: ContainerTable) -> None:
    """Put due retries of our containers' pools back in line, as soon as they are due."""
    while True:
        following = [PROMOTE_SECONDS]
        for pool in {container.pool for container in containers.living()}:
            with survive(f"bringing back the retries of pool {pool}"):
                _, due_in = await client.aio(client.pools.promote(pool))
                following += [] if due_in is None else [due_in]
        await asyncio.sleep(max(0.005, min(following)))
