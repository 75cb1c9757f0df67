"""The seam to the shipped rules of sharing: who gets room that is free, and who gives some back."""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

from qmodal_autoscaler.policy.placement import Rooms
from qmodal_autoscaler.policy.rebalance import STALLED_SECONDS, Donor, StarvedPool, lend
from qmodal_autoscaler.policy.room import NOTHING, AppShares, ContainerRequest, Totals, WorkerRoom
from qmodal_autoscaler.policy.state import Decision
from qmodal_autoscaler.policy.tenure import remaining_seconds
from qmodal_autoscaler.policy.turns import TurnQueue
from qmodal_autoscaler.simulator.engine import Simulation
from qmodal_autoscaler.simulator.pools import SimulatedContainer, SimulatedPool

BOX = "box"
UNLIMITED_ROOM = 1_000_000


class Share(NamedTuple):
    """A pool and what was decided for it in this round."""

    pool: SimulatedPool
    decision: Decision


class Sharing:
    """Places what pools want, and takes from those that have more; `starved_since`: who waits for room, since when.

    This and the room itself are all that the simulator knows of sharing.
    """

    def __init__(self) -> None:
        self.starved_since: dict[str, float] = {}
        self._rates: dict[str, float] = {}
        self._line = TurnQueue()

    def __contains__(self, pool: str) -> bool:
        """Whether the pool waits for room."""
        return pool in self.starved_since

    def forget(self, pool: str) -> None:
        """The pool is put away."""
        self.starved_since.pop(pool, None)
        self._rates.pop(pool, None)
        self._line.leave(pool)

    def settle(self, sim: Simulation, shares: list[Share], *, is_full: bool) -> None:
        """Start what there is room for; in a round over all pools (`is_full`) also end what gives way to others."""
        for pool, decision in shares:
            self._rates[pool.name] = decision.history.arrivals.per_second
            if decision.start:
                self._line.enter(_request(pool, decision))
            else:
                self._line.leave(pool.name)
        placed = self._grant(sim)
        for name in {*self.starved_since, *(share.pool.name for share in shares)}:
            if name in self._line:
                self.starved_since.setdefault(name, sim.now)
            else:
                self.starved_since.pop(name, None)
        if is_full and self.starved_since:
            for container in self._giving_way(sim, shares, placed):
                sim.end(container)

    def _grant(self, sim: Simulation) -> Counter[str]:
        room = UNLIMITED_ROOM if sim.trace.room is None else sim.trace.room - sim.alive
        shares = AppShares(Totals(UNLIMITED_ROOM))
        for pool in sim.pools.values():
            shares.add(_app(pool.name), NOTHING, count=len(pool.containers))
        turns = self._line.call(Rooms([WorkerRoom(id=BOX, free_slots=room)]), shares)
        placed = Counter({each.pool: each.count for each in map(self._line.granted, turns)})
        for name, count in placed.items():
            sim.start(sim.pools[name], count, BOX)
        return placed

    def _giving_way(
        self, sim: Simulation, shares: list[Share], placed: Counter[str]
    ) -> list[SimulatedContainer]:
        wanted = {pool.name: decision.start - placed[pool.name] for pool, decision in shares}
        starved = [
            StarvedPool(
                pool=name,
                have=len(sim.pools[name].containers),
                unmet=wanted[name],
                app=_app(name),
            )
            for name in self.starved_since
            if name in wanted
        ]
        pools = sim.active.values()
        leaving = sum(each.draining for pool in pools for each in pool.containers.values())
        donors = [
            _donor(
                sim,
                pool,
                is_wanting=wanted.get(pool.name, 0) > 0,
                per_second=self._rates.get(pool.name, 0.0),
            )
            for pool in pools
        ]
        known = {name: each for pool in pools for name, each in pool.containers.items()}
        waits = sim.now - min(self.starved_since.values())
        taken = lend(
            starved,
            donors,
            leaving=leaving,
            most=max(1, sim.alive // 2),
            is_stalled=waits > STALLED_SECONDS,
        )
        return [known[name] for name in taken]


def _app(pool: str) -> str:
    """The app of a pool of that name: what stands before the slash."""
    return pool.partition("/")[0] if "/" in pool else ""


def _request(pool: SimulatedPool, decision: Decision) -> ContainerRequest:
    have = len(pool.containers)
    return ContainerRequest(pool=pool.name, count=decision.start, have=have, app=_app(pool.name))


def _donor(sim: Simulation, pool: SimulatedPool, *, is_wanting: bool, per_second: float) -> Donor:
    ready = [each for each in pool.live if each.ready_at < math.inf]
    idle = [(sim.now - each.idle_since, each.id) for each in ready if not each.running]
    return Donor(
        pool=pool.name,
        have=len(ready),
        app=_app(pool.name),
        idle=[] if is_wanting else idle,
        start=pool.start_time or 0.0,
        service=pool.service_time,
        remaining=remaining_seconds(
            waiting=len(pool.queue),
            service=pool.service_time,
            slots=sim.trace.slots,
            containers=len(ready),
            per_second=per_second,
        ),
        busy=[(sim.now - each.ready_at, each.id) for each in ready if each.running],
    )
