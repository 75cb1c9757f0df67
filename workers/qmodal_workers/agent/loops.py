"""A worker's loops: each goes on for as long as its worker does, whatever it meets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from qmodal.transport.defects import survive

AGAIN_SECONDS = 0.5


async def repeated(name: str, loop: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a loop that has no end, from the start again whenever something ends it.

    The end of one would end its worker, and with it every container of the box.
    """
    while True:
        with survive(f"the worker's loop {name!r}"):
            await loop()
        await asyncio.sleep(AGAIN_SECONDS)
