"""The queue of pools to look at: after hints, at planned moments, and all of them once a second."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
import time
from collections.abc import Sequence

from qmodal_autoscaler.cluster.observer import LOOKED_AT_TOGETHER, DuePools

# When a pool is looked at again after a hint: submits publish at most one in 50 ms, so inputs that come
# after the first look are not announced.
SECOND_LOOK_SECONDS = 0.06
# Looks begin no more often than this; what is woken in between shares the next one.
COALESCE_SECONDS = 0.002
# After a look that took so much of a processor, the next one begins no earlier than REST times as long after it began, and
# no later than LONGEST_REST_SECONDS if it is due: with thousands of pools the leader leaves the processors to their containers.
REST, LONGEST_REST_SECONDS = 4.0, 0.05
# Delays of the look after a hint at a pool with ready containers: an idle one answers by then, without us
# beside it on its processor. Each look that changes nothing doubles the delay.
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.01, 0.12
# After a pause of that length the first hint counts as news again.
RESET_DELAY_SECONDS = 1.0


class Timers:
    """A moment for each of many pools; the first of them is at hand, however many there are."""

    def __init__(self) -> None:
        self._moments: dict[str, float] = {}
        # In the heap is, beside each moment, what was there before it was changed.
        self._heap: list[tuple[float, str]] = []

    def set(self, pool: str, moment: float) -> None:
        """Set the pool's moment, in place of another one."""
        if self._moments.get(pool) != moment:
            self._moments[pool] = moment
            heapq.heappush(self._heap, (moment, pool))

    def set_first(self, pool: str, moment: float) -> None:
        """Set the pool's moment if it has none."""
        if pool not in self._moments:
            self.set(pool, moment)

    def moment(self, pool: str, default: float) -> float:
        """The pool's moment."""
        return self._moments.get(pool, default)

    def drop(self, pool: str) -> None:
        """Forget the pool's moment."""
        self._moments.pop(pool, None)

    def first(self) -> float:
        """The earliest moment; infinite if there is none."""
        heap, moments = self._heap, self._moments
        while heap and moments.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else float("inf")

    def take(self, now: float) -> list[str]:
        """Remove and return the pools whose moment has come."""
        taken: list[str] = []
        while self.first() <= now:
            _, pool = heapq.heappop(self._heap)
            del self._moments[pool]
            taken.append(pool)
        return taken


class WorkQueue:
    """Pools that are due now or later; belongs to one event loop. Moments are monotonic seconds."""

    def __init__(self) -> None:
        self._due_now: set[str] = set()
        self._second_looks = Timers()
        self._timers = Timers()
        self._routine = Timers()
        # The moment of the last hint at a pool that has containers, and the delay of the next look.
        self._delays: dict[str, tuple[float, float]] = {}
        self._everything = self._is_news = True
        self._changed = asyncio.Event()
        self._began = 0.0
        self._rest = COALESCE_SECONDS

    def look(self, pool: str) -> None:
        """Make the pool due now."""
        self._due_now.add(pool)
        self._changed.set()

    def wake(self, pool: str) -> None:
        """Make the pool due now, and once more a little later, for inputs that were not announced."""
        self._due_now.add(pool)
        self._second_looks.set(pool, time.monotonic() + SECOND_LOOK_SECONDS)
        self._changed.set()

    def hint(self, pool: str) -> None:
        """Make a pool that has ready containers due after a delay, so that they answer first."""
        now = time.monotonic()
        before, delay = self._delays.get(pool, (0.0, FIRST_DELAY_SECONDS))
        if now - before > RESET_DELAY_SECONDS:
            delay = FIRST_DELAY_SECONDS
        self._delays[pool] = now, delay
        self.plan_no_later(pool, now + delay)
        # Also if that is no later: a look that is under way plans anew when it ends.
        self._second_looks.set_first(pool, now + max(delay, SECOND_LOOK_SECONDS))

    def looked(self, pool: str, *, is_calm: bool) -> None:
        """Take in that the pool was looked at; `is_calm`: nothing changed, which doubles its next delay."""
        if pool in self._delays:
            before, delay = self._delays[pool]
            delay = min(2 * delay, LONGEST_DELAY_SECONDS) if is_calm else FIRST_DELAY_SECONDS
            self._delays[pool] = before, delay

    def wake_all(self, *, is_news: bool = True) -> None:
        """Make everything due now; `is_news`: somebody has said that something has changed."""
        self._everything = True
        self._is_news |= is_news
        self._changed.set()

    def plan(self, pool: str, moment: float | None) -> None:
        """Make the pool due at that moment (None: at none), instead of the one planned before."""
        if moment is None:
            self._timers.drop(pool)
        else:
            self._timers.set(pool, moment)
            self._changed.set()

    def plan_no_later(self, pool: str, moment: float) -> None:
        """Make the pool due at that moment, unless it is planned for an earlier one."""
        self.plan(pool, min(moment, self._timers.moment(pool, moment)))

    def spread(self, pools: Sequence[str], seconds: float) -> None:
        """Have the pools looked at within so many seconds, LOOKED_AT_TOGETHER at a time; overdue ones stay due."""
        now, portions = time.monotonic(), math.ceil(len(pools) / LOOKED_AT_TOGETHER)
        for n, pool in enumerate(pools):
            portion = 1 + n // LOOKED_AT_TOGETHER
            self._routine.set_first(pool, now + seconds * portion / (portions + 1))

    def waits(self, pool: str) -> None:
        """Take in that the pool has nothing and waits for room: it is looked at when there is some, or more inputs come."""
        self._second_looks.drop(pool)
        self._timers.drop(pool)

    def forget(self, pool: str) -> None:
        """Drop the timers of a pool that is gone."""
        self._timers.drop(pool)
        self._second_looks.drop(pool)
        self._routine.drop(pool)
        self._delays.pop(pool, None)

    def rest(self, busy: float) -> None:
        """Take in how many seconds of a processor the look took that began last; none for one that was routine only."""
        self._rest = min(LONGEST_REST_SECONDS, max(COALESCE_SECONDS, REST * busy))

    async def wait(self) -> DuePools:
        """Wait until a pool is due; remove and return all that are due."""
        while (seconds := self._seconds_left()) > 0:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                # Not wait_for: in 3.11 it swallows a cancellation that comes with the event.
                async with asyncio.timeout(min(seconds, 3600)):
                    await self._changed.wait()
        await asyncio.sleep(max(0.0, self._began + self._rest - time.monotonic()))
        return self._take()

    def _seconds_left(self) -> float:
        if self._everything or self._due_now:
            return 0.0
        timers = (self._second_looks, self._timers, self._routine)
        return min(each.first() for each in timers) - time.monotonic()

    def _take(self) -> DuePools:
        self._began = now = time.monotonic()
        pools, self._due_now = self._due_now, set()
        for timers in (self._second_looks, self._timers):
            pools.update(timers.take(now))
        for pool in pools:
            self._routine.drop(pool)  # this look will do
        routine = frozenset(self._routine.take(now))
        everything, self._everything = self._everything, False
        is_news, self._is_news = self._is_news, False
        return DuePools(frozenset(pools), everything, is_news, routine)
