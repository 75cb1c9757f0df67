"""Placement of new containers: fair between pools, spread over workers."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRequest:
    """A pool that wants `count` more containers, has `have`, and runs the app `version`.

    `unfit`: boxes that could not decode its inputs, taken only if there is no other. `weight`: its share beside
    other pools of its `app`. `is_long`: many inputs wait in it.
    """

    pool: str
    count: int
    have: int = 0
    version: str = ""
    unfit: frozenset[str] = frozenset()
    app: str = ""
    weight: float = 1.0
    is_long: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRoom:
    """A worker with room for `free_slots` more containers; `warm` are the versions it has loaded.

    Beyond these it takes as many as `ahead`, which it starts as there is room.
    """

    id: str
    free_slots: int
    warm: frozenset[str] = frozenset()
    ahead: int = 0


def place(
    requests: Sequence[ContainerRequest], workers: Sequence[WorkerRoom]
) -> list[tuple[str, str]]:
    """Pairs of pool and worker, one for each container that finds room, in the order of granting.

    The next container always goes to the pool that has the fewest; equal pools take turns in the
    order of `requests`. It goes to the worker with most room left, a warm one if several have it; where none
    has room, to one that takes more ahead.
    """
    turns = [(n.have, order, n.count) for order, n in enumerate(requests) if n.count > 0]
    heapq.heapify(turns)
    free = {w.id: w.free_slots for w in workers if w.free_slots > 0}
    later = {w.id: w.ahead for w in workers if w.ahead > 0}
    if not free:
        free, later = later, {}
    warm = {w.id: w.warm for w in workers}
    placed: list[tuple[str, str]] = []
    while turns and free:
        have, order, count = heapq.heappop(turns)
        request = requests[order]
        chosen = min(
            free, key=lambda w: (w in request.unfit, -free[w], request.version not in warm[w], w)
        )
        placed.append((request.pool, chosen))
        free[chosen] -= 1
        if not free[chosen]:
            del free[chosen]
            if not free:
                free, later = later, {}
        if count > 1:
            heapq.heappush(turns, (have + 1, order, count - 1))
    return placed
