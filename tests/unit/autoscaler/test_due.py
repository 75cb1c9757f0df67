"""When pools are looked at."""

from __future__ import annotations

import asyncio
import time

from qmodal_autoscaler.cluster.observer import LOOKED_AT_TOGETHER, DuePools
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


def test_what_is_left_for_later_comes_in_portions_and_not_twice() -> None:
    pools = [f"pool{number}" for number in range(3 * LOOKED_AT_TOGETHER + 1)]

    async def portions() -> list[DuePools]:
        queue = WorkQueue()
        await queue.wait()
        queue.spread(pools, 0.2)
        queue.spread(pools[:5], 60.0)  # those that are still to come keep their moment
        queue.look(pools[-1])
        found = [await queue.wait()]
        while sum(len(each.routine) for each in found) < len(pools) - 1:
            found.append(await queue.wait())
        return found

    first, *others = asyncio.run(asyncio.wait_for(portions(), 30))
    assert first == DuePools(frozenset(pools[-1:]), everything=False)
    assert not any(each.pools or each.everything for each in others)
    assert sorted(pool for each in others for pool in each.routine) == sorted(pools[:-1])
