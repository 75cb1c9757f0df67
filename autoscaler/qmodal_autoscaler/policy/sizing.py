"""The number of containers that a pool needs: sized by what the existing ones cannot absorb in time."""

from __future__ import annotations

import math
from dataclasses import replace

from qmodal_autoscaler.policy.state import PoolCounts, PoolHistory, PoolSettings, PoolSnapshot

# A shorter mean service time is noise.
SHORTEST_SERVICE_SECONDS = 1e-3


def needed(
    counts: PoolCounts,
    snapshot: PoolSnapshot,
    settings: PoolSettings,
    history: PoolHistory,
    now: float,
) -> int:
    """The containers the pool should have, were none of them to be removed and had it no maximum.

    It never asks for more than one slot for each input in flight, except for the buffer of an
    active pool and for the minimum. Retries that wait ask for nothing until they are due.
    """
    floor = _reserved(counts, snapshot, settings, history, now)
    if _has_only_retries(counts, snapshot):
        return floor
    kept = min(len(counts.live), counts.hard)
    return max(floor, kept + _extra(counts, snapshot, settings, history, now))


def damped(
    wanted: int,
    counts: PoolCounts,
    snapshot: PoolSnapshot,
    settings: PoolSettings,
    history: PoolHistory,
    now: float,
) -> tuple[PoolHistory, int]:
    """The history with the `wanted` size in it, and of that no more than was wanted throughout the scale-up window.

    The live containers, the first one, the minimum and the buffer are never held back.
    """
    width = settings.scaleup_window
    if not width:
        return history, wanted
    size = len(counts.live)
    # Of a look at which nothing waits, what is there counts as wanted: it is not asked for again.
    least = history.least.observe(max(wanted, size), now=now, width=width)
    floor = max(1, size, _reserved(counts, snapshot, settings, history, now))
    return replace(history, least=least), min(wanted, max(floor, least.low(now, width)))


def _reserved(
    counts: PoolCounts,
    snapshot: PoolSnapshot,
    settings: PoolSettings,
    history: PoolHistory,
    now: float,
) -> int:
    """The minimum, and the busy containers with the buffer while the pool is active."""
    if _has_only_retries(counts, snapshot) or now >= history.active_until(settings):
        return settings.min_containers
    # Containers that share few inputs are a buffer themselves.
    used = min(counts.busy, counts.hard)
    return max(settings.min_containers, used + settings.buffer_containers)


def _has_only_retries(counts: PoolCounts, snapshot: PoolSnapshot) -> bool:
    return not counts.demand and snapshot.delayed > 0


def _extra(
    counts: PoolCounts,
    snapshot: PoolSnapshot,
    settings: PoolSettings,
    history: PoolHistory,
    now: float,
) -> int:
    """How many containers are needed beyond the live ones."""
    room = counts.hard - len(counts.live)
    if counts.waiting == 0 or room <= 0:
        return 0
    if snapshot.service_time is None or snapshot.start_time is None:
        return room
    # An input that outlasts the learned mean shows the mean to be wrong: without this, one long
    # input in front of a queue of short ones looked like a container about to be free.
    service = max(snapshot.service_time, now - history.progress_at, SHORTEST_SERVICE_SECONDS)
    start = max(0.0, snapshot.start_time)
    left = counts.waiting + history.arrivals.per_second * start
    left -= _absorbed(counts, settings, service, start, now)
    left -= _drained(counts, settings, service, start)
    horizon = max(service, settings.alpha * start)
    extra = math.ceil(max(0.0, left) * service / (settings.slots * horizon))
    return max(0 if counts.live else 1, min(extra, room))


def _absorbed(
    counts: PoolCounts, settings: PoolSettings, service: float, start: float, now: float
) -> float:
    """Inputs that existing containers will have begun by the time a new one is up."""
    seconds = start * len(counts.ready)
    seconds += sum(min(start, max(0.0, now - c.since)) for c in counts.starting)
    return max(0.0, settings.slots * seconds / service - counts.running / 2)


def _drained(counts: PoolCounts, settings: PoolSettings, service: float, start: float) -> float:
    """Inputs that existing containers will begin in the drain horizon after that.

    A free slot begins at least one. A slot that is taken is not credited with one: a queue behind
    hour-long inputs would then wait for them, with room to start more.
    """
    soft = settings.alpha * start / service
    free = max(0, settings.slots * len(counts.live) - counts.running)
    return free * max(1.0, soft) + counts.running * soft
