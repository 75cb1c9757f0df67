"""Go on after what should not have happened to one item: the loops of a worker serve all of its containers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager

# Said once in so many seconds: a loop that looks twenty times a second would fill the log with it.
QUIET_SECONDS = 60.0
AGAIN_SECONDS = 1.0
log = logging.getLogger("qmodal.worker")
_said: dict[tuple[str, type], float] = {}


@contextmanager
def outlived(item: str) -> Iterator[None]:
    """Log any exception of the block with `item`, the name of what it was about, and go on."""
    try:
        yield
    except Exception as error:
        now, kind = time.monotonic(), (item, type(error))
        if now - _said.get(kind, -QUIET_SECONDS) >= QUIET_SECONDS:
            if len(_said) > 1000:
                _said.clear()
            _said[kind] = now
            log.exception("qmodal contradicts itself about %s, and goes on", item)


async def repeated(name: str, loop: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a loop that has no end, from the start again whenever something ends it."""
    while True:
        with outlived(f"its loop {name!r}"):
            await loop()
        await asyncio.sleep(AGAIN_SECONDS)
