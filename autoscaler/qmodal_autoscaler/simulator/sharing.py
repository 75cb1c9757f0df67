"""The seam to the shipped rules of sharing: who gets room that is free, and who gives some back."""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

from qmodal_autoscaler.policy.placement import ContainerRequest, WorkerRoom, place
from qmodal_autoscaler.policy.rebalance import Donor, StarvedPool, lend
from qmodal_autoscaler.policy.state import Decision
from qmodal_autoscaler.simulator.engine import Simulation
from qmodal_autoscaler.simulator.pools import SimulatedContainer, SimulatedPool

BOX = "box"
UNLIMITED_ROOM = 1_000_000


class Share(NamedTuple):
    """A pool and what was decided for it in this round."""

    pool: SimulatedPool
    decision: Decision


def grant(sim: Simulation, wanting: list[Share]) -> Counter[str]:
    """Start what the pools want, as far as there is room; returns how many containers each has got."""
    room = UNLIMITED_ROOM if sim.trace.room is None else sim.trace.room - sim.alive
    requests = [
        ContainerRequest(pool=pool.name, count=decision.start, have=len(pool.containers))
        for pool, decision in wanting
    ]
    placed = Counter(pool for pool, _ in place(requests, [WorkerRoom(id=BOX, free_slots=room)]))
    for name, count in placed.items():
        sim.start(sim.pools[name], count, BOX)
    return placed


def make_room(
    sim: Simulation, shares: list[Share], placed: Counter[str], starved_since: dict[str, float]
) -> list[SimulatedContainer]:
    """The containers that pools with more of them give up for pools that have found no room."""
    wanted = {pool.name: decision.start - placed[pool.name] for pool, decision in shares}
    starved = [
        StarvedPool(
            pool=name,
            have=len(sim.pools[name].containers),
            unmet=wanted[name],
            seconds=sim.now - since,
        )
        for name, since in starved_since.items()
        if name in wanted
    ]
    pools = sim.active.values()
    leaving = sum(each.draining for pool in pools for each in pool.containers.values())
    donors = [_donor(sim, pool, is_wanting=wanted.get(pool.name, 0) > 0) for pool in pools]
    known = {name: each for pool in pools for name, each in pool.containers.items()}
    return [known[name] for name in lend(starved, donors, leaving=leaving)]


def _donor(sim: Simulation, pool: SimulatedPool, *, is_wanting: bool) -> Donor:
    ready = [each for each in pool.live if each.ready_at < math.inf]
    idle = [(sim.now - each.idle_since, each.id) for each in ready if not each.running]
    return Donor(
        pool=pool.name,
        have=len(ready),
        idle=[] if is_wanting else idle,
        busy=[each.id for each in ready if each.running],
    )
