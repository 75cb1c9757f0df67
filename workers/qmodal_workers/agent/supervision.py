"""Supervision of the worker's loops: a loop that fails is restarted, whatever it met."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from qmodal.transport.defects import survive

RESTART_SECONDS = 0.5


async def supervised(name: str, loop: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a loop that has no end, and restart it after a pause whenever something ends it.

    The end of one would end its worker, and with it every container of the box.
    """
    while True:
        with survive(f"the worker's loop {name!r}"):
            await loop()
        await asyncio.sleep(RESTART_SECONDS)
