"""Sliding statistics: the highest and the lowest recent level of a step function, and the rate of arrivals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

# An arrival weighs 1/e after this.
RATE_HORIZON_SECONDS = 10.0


class PastLevel(NamedTuple):
    """A level that the step function has left, and when."""

    at: float
    level: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakWindow:
    """The sliding maximum of a step function, as a value.

    `past` holds levels keyed by when they ended, oldest first and strictly falling, each above the
    current `level`: a lower level that ended earlier can never be the maximum again, so the size
    is bounded by the number of distinct levels and not by the number of observations. Keyed by
    when a level began, an old peak that ended a moment ago would already count as outside.
    """

    level: int = 0
    seen: float = -math.inf
    past: tuple[PastLevel, ...] = ()

    def observe(self, level: int, *, ended: float, now: float, width: float) -> PeakWindow:
        """The window after seeing `level` at `now`.

        `ended` is when the previous level ended at the latest, if this one is lower; it is taken
        as no earlier than the previous observation and no later than `now`. Seconds.
        """
        past = self.past
        if level < self.level:
            past = (*past, PastLevel(at=min(now, max(ended, self.seen)), level=self.level))
        past = tuple(e for e in past if e.level > level and e.at + width > now)
        return PeakWindow(level=level, seen=now, past=past)

    def high(self, now: float, width: float) -> int:
        """The highest level that held at some moment of the last `width` seconds."""
        return max(self.level, *(e.level for e in self.past if e.at + width > now), 0)

    def next_fall(self, now: float, width: float) -> float | None:
        """When `high` will next fall by the passing of time alone, or None."""
        return next((e.at + width for e in self.past if e.at + width > now), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastWindow:
    """The sliding minimum of a step function, as a value; before it was observed first, its level was 0.

    `past` holds levels keyed by when they ended, oldest first and strictly rising, each below the
    current `level`: the mirror image of `PeakWindow`. Keyed by when it began, a level that had held for
    long would already count as outside when it ends, and a rise would never wait.
    """

    level: int = 0
    past: tuple[PastLevel, ...] = ()

    def observe(self, level: int, *, now: float, width: float) -> LeastWindow:
        """The window after seeing `level` at `now`, until when the level before may have held. Seconds."""
        past = self.past
        if level > self.level:
            past = (*past, PastLevel(at=now, level=self.level))
        past = tuple(e for e in past if e.level < level and e.at + width > now)
        return LeastWindow(level=level, past=past)

    def low(self, now: float, width: float) -> int:
        """The lowest level that held at some moment of the last `width` seconds."""
        return min([self.level, *(e.level for e in self.past if e.at + width > now)])

    def next_rise(self, now: float, width: float) -> float | None:
        """When `low` will next rise by the passing of time alone, or None."""
        return next((e.at + width for e in self.past if e.at + width > now), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalRate:
    """Arrivals per second out of an ever-growing counter, decaying exponentially."""

    per_second: float = 0.0
    counted: int | None = None
    seen: float = 0.0

    def observe(self, counter: int, now: float) -> ArrivalRate:
        """The rate after reading `counter` at `now`; a counter that went back starts afresh."""
        if self.counted is None or counter < self.counted:
            return ArrivalRate(per_second=0.0, counted=counter, seen=now)
        span = max(now - self.seen, 1e-6)
        fade = math.exp(-span / RATE_HORIZON_SECONDS)
        recent = (counter - self.counted) / span
        rate = self.per_second * fade + recent * -math.expm1(-span / RATE_HORIZON_SECONDS)
        return ArrivalRate(per_second=rate, counted=counter, seen=now)
