"""The queue of pools to look at: after hints, at planned moments, and all of them once a second."""

from __future__ import annotations

import asyncio
import contextlib
import time

from qmodal_autoscaler.cluster.observer import DuePools

# When a pool is looked at again after a hint: submits publish at most one in 50 ms, so inputs that come
# after the first look are not announced.
SECOND_LOOK_SECONDS = 0.06
# Looks begin no more often than this; what is woken in between shares the next one.
COALESCE_SECONDS = 0.002
# Delays of the look after a hint at a pool with ready containers: an idle one answers by then, without us
# beside it on its processor. Each look that changes nothing doubles the delay.
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.01, 0.12
# After a pause of that length the first hint counts as news again.
RESET_DELAY_SECONDS = 1.0


class WorkQueue:
    """Pools that are due now or later; belongs to one event loop. Moments are monotonic seconds."""

    def __init__(self) -> None:
        self._due_now: set[str] = set()
        self._second_looks: dict[str, float] = {}
        self._timers: dict[str, float] = {}
        # The moment of the last hint at a pool that has containers, and the delay of the next look.
        self._delays: dict[str, tuple[float, float]] = {}
        self._everything = True
        self._changed = asyncio.Event()
        self._began = 0.0

    def wake(self, pool: str) -> None:
        """Make the pool due now, and once more a little later."""
        self._due_now.add(pool)
        self._second_looks[pool] = time.monotonic() + SECOND_LOOK_SECONDS
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
        self._second_looks.setdefault(pool, now + max(delay, SECOND_LOOK_SECONDS))

    def looked(self, pool: str, *, is_calm: bool) -> None:
        """Take in that the pool was looked at; `is_calm`: nothing changed, which doubles its next delay."""
        if pool in self._delays:
            before, delay = self._delays[pool]
            delay = min(2 * delay, LONGEST_DELAY_SECONDS) if is_calm else FIRST_DELAY_SECONDS
            self._delays[pool] = before, delay

    def wake_all(self) -> None:
        """Make all pools due now."""
        self._everything = True
        self._changed.set()

    def plan(self, pool: str, moment: float | None) -> None:
        """Make the pool due at that moment (None: at none), instead of the one planned before."""
        if moment is None:
            self._timers.pop(pool, None)
        else:
            self._timers[pool] = moment
            self._changed.set()

    def plan_no_later(self, pool: str, moment: float) -> None:
        """Make the pool due at that moment, unless it is planned for an earlier one."""
        self.plan(pool, min(moment, self._timers.get(pool, moment)))

    def forget(self, pool: str) -> None:
        """Drop the timers of a pool that is gone."""
        self._timers.pop(pool, None)
        self._second_looks.pop(pool, None)
        self._delays.pop(pool, None)

    async def wait(self) -> DuePools:
        """Wait until a pool is due; remove and return all that are due."""
        while (seconds := self._seconds_left()) > 0:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                # Not wait_for: in 3.11 it swallows a cancellation that comes with the event.
                async with asyncio.timeout(min(seconds, 3600)):
                    await self._changed.wait()
        await asyncio.sleep(max(0.0, self._began + COALESCE_SECONDS - time.monotonic()))
        return self._take()

    def _seconds_left(self) -> float:
        if self._everything or self._due_now:
            return 0.0
        moments = (*self._second_looks.values(), *self._timers.values())
        return min(moments, default=float("inf")) - time.monotonic()

    def _take(self) -> DuePools:
        self._began = now = time.monotonic()
        pools, self._due_now = self._due_now, set()
        for moments in (self._second_looks, self._timers):
            due = [pool for pool, moment in moments.items() if moment <= now]
            pools.update(due)
            for pool in due:
                del moments[pool]
        everything, self._everything = self._everything, False
        return DuePools(frozenset(pools), everything)
