"""The oracle: the container-seconds of somebody who knows all arrivals beforehand and lets no input wait."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from qmodal_autoscaler.simulator.traces.trace import Arrival, Trace


def oracle_seconds(trace: Trace) -> float:
    """The fewest container-seconds, boots included, with which no input of the trace waits.

    Containers boot before they are needed. Each pool keeps a stack of them: the top one is ended when it
    becomes idle, unless keeping it until it is needed again costs less than another boot.
    """
    pools: dict[str, list[Arrival]] = {}
    for each in trace.arrivals:
        pools.setdefault(each.pool, []).append(each)
    return sum(_pool_seconds(each, trace.start_time, trace.slots) for each in pools.values())


def needed(arrivals: Iterable[Arrival], slots: int) -> list[tuple[float, int]]:
    """How many containers are busy from when on, if inputs never wait and share as few as can be."""
    ends: list[float] = []
    levels: list[tuple[float, int]] = []
    for arrival in arrivals:
        while ends and ends[0] <= arrival.at:
            at = heapq.heappop(ends)
            levels.append((at, -(-len(ends) // slots)))
        heapq.heappush(ends, arrival.at + arrival.service)
        levels.append((arrival.at, -(-len(ends) // slots)))
    while ends:
        at = heapq.heappop(ends)
        levels.append((at, -(-len(ends) // slots)))
    return levels


def _pool_seconds(arrivals: list[Arrival], start_time: float, slots: int) -> float:
    seconds, before, last = 0.0, 0, 0.0
    left: list[float] = []  # of each container in the stack that is idle: since when
    for at, level in needed(arrivals, slots):
        seconds += before * (at - last)
        for _ in range(level - before):
            # The one that became idle last: giving work to it leaves the long gaps to others.
            gap = at - left.pop() if left else start_time
            seconds += min(gap, start_time)
        left.extend([at] * (before - level))
        before, last = level, at
    return seconds
