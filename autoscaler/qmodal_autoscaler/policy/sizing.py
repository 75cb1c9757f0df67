"""The number of containers that a pool needs: sized by what the existing ones cannot absorb in time."""

from __future__ import annotations

import math

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
    floor = settings.min_containers
    if not counts.demand and snapshot.delayed:
        return floor
    if now < history.active_until(settings):
        # Containers that share few inputs are a buffer themselves.
        floor = max(floor, min(counts.busy, counts.hard) + settings.buffer_containers)
    kept = min(len(counts.live), counts.hard)
    return max(floor, kept + _extra(counts, snapshot, settings, history, now))


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
