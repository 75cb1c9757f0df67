"""A trace as a value: when inputs come, how long they take, and what the machines do meanwhile."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple


class Arrival(NamedTuple):
    """An input: when it comes and how long it runs, in seconds, and its pool, `app/pool` or `pool`."""

    at: float
    service: float
    pool: str = "pool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong: deaths per container-second, the age of what the leader reads, and changes of leader.

    Each of `leader_losses` is a moment at which the leader goes; the next one comes six seconds later and
    knows nothing of the past. During `blackouts` (from, to) nothing can be read at all. Seconds.
    """

    death_rate: float = 0.0
    lag: float = 0.003
    leader_losses: tuple[float, ...] = ()
    blackouts: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Inputs in the order of their arrival, and the pools' terms.

    `start_time`: seconds that a container takes to become ready; `window`: scaledown_window; `slots`: inputs
    that a container runs at once; `room`: how many containers all boxes can hold, None for any number.
    """

    name: str
    arrivals: tuple[Arrival, ...]
    start_time: float
    slots: int = 1
    window: float = 60.0
    room: int | None = None
    faults: Faults = field(default_factory=Faults)

    def until(self, moment: float) -> Trace:
        """The part of the trace before that moment."""
        return replace(self, arrivals=tuple(each for each in self.arrivals if each.at < moment))

    @property
    def end(self) -> float:
        """The moment of the last arrival."""
        return self.arrivals[-1].at


def poisson(chance: random.Random, rate: float, begin: float, end: float) -> Iterator[float]:
    """Moments of arrivals that know nothing of each other, `rate` a second."""
    at = begin + chance.expovariate(rate)
    while at < end:
        yield at
        at += chance.expovariate(rate)


def around(chance: random.Random, mean: float, sigma: float = 0.3) -> float:
    """A service time from a log-normal distribution with that mean; the larger `sigma`, the longer its tail."""
    return mean * chance.lognormvariate(-sigma * sigma / 2, sigma)


def in_order(arrivals: list[Arrival]) -> tuple[Arrival, ...]:
    """The arrivals by their moment; those of one moment stay in their order."""
    return tuple(sorted(arrivals, key=lambda each: each.at))


def diurnal_moments(
    chance: random.Random, low: float, high: float, day: float, end: float
) -> Iterator[float]:
    """Arrivals whose rate swings between `low` and `high` a second once in `day` seconds."""
    for at in poisson(chance, high, 0.0, end):
        rate = low + (high - low) * (1 - math.cos(2 * math.pi * at / day)) / 2
        if chance.random() < rate / high:
            yield at
