"""When pools are looked at."""

from __future__ import annotations

import asyncio
import time

from qmodal_autoscaler.cluster.observer import DuePools
from qmodal_autoscaler.control.workqueue import (
    FIRST_DELAY_SECONDS,
    LONGEST_DELAY_SECONDS,
    WorkQueue,
)


def looks(due: WorkQueue, count: int) -> list[float]:
    """Seconds from a hint to the look that it brings, that many times."""

    async def hinted() -> float:
        begin = time.monotonic()
        due.hint("pool")
        while "pool" not in (await due.wait()).pools:
            continue
        return time.monotonic() - begin

    async def all_of_them() -> list[float]:
        assert await due.wait() == DuePools(frozenset(), everything=True, is_news=True)
        taken = []
        for _ in range(count):
            taken.append(await hinted())
            due.looked("pool", is_calm=True)
            due.plan("pool", None)
        return taken

    return asyncio.run(all_of_them())


def test_looks_that_change_nothing_come_later_and_later_but_they_come() -> None:
    taken = looks(WorkQueue(), 7)
    assert taken[0] >= FIRST_DELAY_SECONDS
    assert taken[-1] >= LONGEST_DELAY_SECONDS
