"""Which pools have to be looked at, and when: hints, timers, and everything once a second."""

from __future__ import annotations

import asyncio
import contextlib
import time

from qmodal_autoscaler.cluster.observer import DuePools

# Submits publish at most one hint in 50 ms; what came after the first look is seen by a second.
AGAIN_SECONDS = 0.06
# Looks begin no more often than this; what is woken in between shares the next one.
COALESCE_SECONDS = 0.002
# A container that was idle has answered by then, without us beside it on its processor. Looks that
# change nothing, one hint after the other, come later and later.
SERVED_SECONDS, CALM_SECONDS = 0.01, 0.12
# After a pause of that length the first hint counts as news again.
QUIET_SECONDS = 1.0


class WorkQueue:
    """The clock of the looks; belongs to one event loop. Moments are monotonic seconds."""

    def __init__(self) -> None:
        self._now: set[str] = set()
        self._again: dict[str, float] = {}
        self._timers: dict[str, float] = {}
        self._calm: dict[str, tuple[float, float]] = {}  # when it was hinted at last, and the delay
        self._everything = True
        self._changed = asyncio.Event()
        self._began = 0.0

    def wake(self, pool: str) -> None:
        """Somebody hinted at the pool: look now, and once more a little later."""
        self._now.add(pool)
        self._again[pool] = time.monotonic() + AGAIN_SECONDS
        self._changed.set()

    def hint(self, pool: str) -> None:
        """Somebody hinted at a pool that has containers: they come first, then we look."""
        now = time.monotonic()
        before, delay = self._calm.get(pool, (0.0, SERVED_SECONDS))
        if now - before > QUIET_SECONDS:
            delay = SERVED_SECONDS
        self._calm[pool] = now, delay
        self.sooner(pool, now + delay)
        # Also if that is no later: a look that is under way plans anew when it ends.
        self._again.setdefault(pool, now + max(delay, AGAIN_SECONDS))

    def looked(self, pool: str, *, is_calm: bool) -> None:
        """Somebody has looked at the pool; `is_calm`: and changed nothing."""
        if pool in self._calm:
            before, delay = self._calm[pool]
            delay = min(2 * delay, CALM_SECONDS) if is_calm else SERVED_SECONDS
            self._calm[pool] = before, delay

    def everything(self) -> None:
        """Look at all there is."""
        self._everything = True
        self._changed.set()

    def plan(self, pool: str, moment: float | None) -> None:
        """Look at the pool at that moment, and no more at the one planned before."""
        if moment is None:
            self._timers.pop(pool, None)
        else:
            self._timers[pool] = moment
            self._changed.set()

    def sooner(self, pool: str, moment: float) -> None:
        """Look at the pool at that moment, if not planned for an earlier one."""
        self.plan(pool, min(moment, self._timers.get(pool, moment)))

    def forget(self, pool: str) -> None:
        """The pool is gone: no timers."""
        self._timers.pop(pool, None)
        self._again.pop(pool, None)
        self._calm.pop(pool, None)

    async def wait(self) -> DuePools:
        """What is due, as soon as something is."""
        while (seconds := self._seconds_left()) > 0:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                # Not wait_for: in 3.11 it swallows a cancellation that comes with the event.
                async with asyncio.timeout(min(seconds, 3600)):
                    await self._changed.wait()
        await asyncio.sleep(max(0.0, self._began + COALESCE_SECONDS - time.monotonic()))
        return self._take()

    def _seconds_left(self) -> float:
        if self._everything or self._now:
            return 0.0
        moments = (*self._again.values(), *self._timers.values())
        return min(moments, default=float("inf")) - time.monotonic()

    def _take(self) -> DuePools:
        self._began = now = time.monotonic()
        pools, self._now = self._now, set()
        for moments in (self._again, self._timers):
            due = [pool for pool, moment in moments.items() if moment <= now]
            pools.update(due)
            for pool in due:
                del moments[pool]
        everything, self._everything = self._everything, False
        return DuePools(frozenset(pools), everything)
