"""A worker's share in keeping the fleet and its box: lost boxes, retries that are due, and code of long ago."""

from __future__ import annotations

import asyncio
import time

from qmodal.client.client import Client
from qmodal.source import bundle
from qmodal.source.unpacked_code import discard
from qmodal.store.watch.sweeper import Sweeper
from qmodal.telemetry.events import BOX_LOST, emit
from qmodal.transport.defects import survive
from qmodal_workers.agent.containers import ContainerTable

SWEEP_SECONDS = 1.0
PROMOTE_SECONDS = 1.0
# Unpacked code from which no container was started or ran for so long is removed, as it is on the server.
KEEP_CODE_SECONDS = 30 * 86_400.0
FORGET_CODE_SECONDS = 3600.0


async def sweep(client: Client, worker: str) -> None:
    """Take back what lost boxes held, for ever."""
    sweeper = Sweeper(client.keys, own=worker, failed_arguments=client.settings.failed_arguments)
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        with survive("the sweep for lost boxes"):
            for lost in await client.aio(sweeper.sweep()):
                emit(BOX_LOST, worker=lost)


async def promote(client: Client, containers: ContainerTable) -> None:
    """Put due retries of our containers' pools back in line, as soon as they are due."""
    while True:
        following = [PROMOTE_SECONDS]
        for pool in {container.pool for container in containers.living()}:
            with survive(f"bringing back the retries of pool {pool}"):
                _, due_in = await client.aio(client.pools.promote(pool))
                following += [] if due_in is None else [due_in]
        await asyncio.sleep(max(0.005, min(following)))


async def forget_code(client: Client, containers: ContainerTable) -> None:
    """Remove the unpacked code that no worker of this machine needs any more, for ever."""
    while True:
        with survive("removing code of long ago"):
            for folder in {each.code for each in containers.living() if each.code is not None}:
                bundle.touch(folder)
            since = time.time() - KEEP_CODE_SECONDS
            for folder in list(bundle.unused(client.settings.code, since=since)):
                await asyncio.to_thread(discard, folder)
        await asyncio.sleep(FORGET_CODE_SECONDS)
