"""What a worker does for the whole fleet: sweep lost boxes, and promote retries that are due."""

from __future__ import annotations

import asyncio
import logging

from qmodal.client import Client
from qmodal.exception import Error
from qmodal.sweeping import Sweeper
from qmodal_workers.outlive import outlived
from qmodal_workers.roster import Roster

SWEEP_SECONDS = 1.0
PROMOTE_SECONDS = 1.0
log = logging.getLogger("qmodal.worker")


async def sweep(client: Client, worker: str) -> None:
    """Take back what lost boxes held, for ever."""
    sweeper = Sweeper(client.keys, own=worker)
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        try:
            for lost in await client.aio(sweeper.sweep()):
                log.warning("%s was lost; what it held is given back", lost)
        except Error as error:
            log.warning("lost boxes cannot be looked for: %s", error)


async def promote(client: Client, roster: Roster) -> None:
    """Put due retries of our containers' pools back in line, as soon as they are due."""
    while True:
        following = [PROMOTE_SECONDS]
        for pool in {container.pool for container in roster.living()}:
            due_in = None
            with outlived(f"retries of pool {pool}"):
                due_in = await _promote(client, pool)
            following += [] if due_in is None else [due_in]
        await asyncio.sleep(max(0.005, min(following)))


async def _promote(client: Client, pool: str) -> float | None:
    """Seconds until the next one is due, if that is known."""
    try:
        _, due_in = await client.aio(client.pools.promote(pool))
    except Error as error:
        log.warning("retries of pool %s cannot be promoted: %s", pool, error)
        return None
    return due_in
