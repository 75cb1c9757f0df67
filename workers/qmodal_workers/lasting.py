"""A worker's loops: each goes on for as long as its worker does, whatever it meets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from qmodal.defects import survive

PAUSE_SECONDS = 0.5
Loop = Callable[[], Coroutine[None, None, None]]


async def lasting(name: str, loop: Loop) -> None:
    """Run a loop that never ends, and begin it anew after a moment when it has failed.

    The end of one would end its worker, and with it every container of the box.
    """
    while True:
        with survive(f"the worker's loop {name!r}"):
            await loop()
        await asyncio.sleep(PAUSE_SECONDS)
