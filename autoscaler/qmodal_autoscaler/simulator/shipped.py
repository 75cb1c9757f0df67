"""The shipped policy as a leader runs it: looks after hints, at planned moments, and once a second."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from qmodal_autoscaler.policy.decide import decide, serves_alone
from qmodal_autoscaler.policy.state import (
    ContainerState,
    ContainerView,
    Decision,
    PoolHistory,
    PoolSettings,
    PoolSnapshot,
)
from qmodal_autoscaler.simulator.engine import Simulation
from qmodal_autoscaler.simulator.pools import SimulatedContainer, SimulatedPool
from qmodal_autoscaler.simulator.sharing import Share, Sharing

# From a hint at a pool without ready containers to the look; at one with them, the look waits longer.
WAKE_SECONDS, HINT_SECONDS = 0.003, 0.05
# Until another leader takes over.
ELECTION_SECONDS = 6.0


class Reading(NamedTuple):
    """What a look reads of a pool: inputs, and of each container how many it runs and since when it is idle."""

    inflight: int
    submitted: int
    containers: dict[str, tuple[int, float]]


@dataclass(slots=True)
class LeaderMemory:
    """What a leader knows of pools; another leader begins with nothing. Moments by the names of pools."""

    histories: dict[str, PoolHistory] = field(default_factory=dict)
    served: set[str] = field(default_factory=set)
    sharing: Sharing = field(default_factory=Sharing)
    planned: dict[str, float] = field(default_factory=dict)
    unsettled: set[str] = field(default_factory=set)
    settled: dict[str, int] = field(default_factory=dict)


class ShippedPolicy:
    """A leader that decides with `qmodal_autoscaler.policy`; the same settings hold for all pools."""

    period = 1.0
    most_recent = False

    def __init__(self, settings: PoolSettings) -> None:
        self.settings = settings
        self._memory = LeaderMemory()
        self._leads_from = -math.inf
        self._lost: set[float] = set()

    def arrived(self, sim: Simulation, pool: SimulatedPool) -> None:
        """Look at the pool soon, unless one input has come for which a container is ready."""
        self._memory.unsettled.add(pool.name)
        if pool.inflight == 1 and pool.name in self._memory.served:
            return
        self._plan(sim, pool, sim.now + (HINT_SECONDS if pool.ready else WAKE_SECONDS))

    def changed(self, sim: Simulation, pool: SimulatedPool) -> None:
        """Look at the pool at once."""
        self._memory.unsettled.add(pool.name)
        self._plan(sim, pool, sim.now + WAKE_SECONDS)

    def round(self, sim: Simulation) -> None:
        """Look at all pools in which something has happened, or may yet happen by itself.

        The others are left out to save time: for them only `retry_at` can bring another decision.
        """
        self._change_leader(sim)
        memory, due = self._memory, []
        for name, pool in sim.active.items():
            is_moved = memory.settled.get(name) != pool.settled
            if is_moved or pool.queue or name in memory.unsettled or name in memory.sharing:
                due.append(pool)
        self._look(sim, due, is_full=True)

    def _change_leader(self, sim: Simulation) -> None:
        for moment in sim.trace.faults.leader_losses:
            if moment <= sim.now and moment not in self._lost:
                self._lost.add(moment)
                self._leads_from = moment + ELECTION_SECONDS
                self._memory = LeaderMemory(unsettled=set(sim.active))

    def _plan(self, sim: Simulation, pool: SimulatedPool, at: float) -> None:
        if at < self._memory.planned.get(pool.name, math.inf):
            self._memory.planned[pool.name] = at
            sim.plan(at, self._planned, (sim, pool, at))

    def _planned(self, due: tuple[Simulation, SimulatedPool, float]) -> None:
        sim, pool, at = due
        if self._memory.planned.get(pool.name) == at:
            del self._memory.planned[pool.name]
            self._look(sim, [pool], is_full=False)

    def _look(self, sim: Simulation, pools: list[SimulatedPool], *, is_full: bool) -> None:
        if sim.now < self._leads_from or _is_dark(sim):
            # Nothing can be read: nothing is decided, and the next round looks again.
            self._memory.unsettled.update(pool.name for pool in pools)
            return
        self._memory.settled.update((pool.name, pool.settled) for pool in pools)
        readings = [(pool, _read(pool)) for pool in pools]
        sim.plan(sim.now + sim.trace.faults.lag, self._decide, (sim, readings, is_full))

    def _decide(self, look: tuple[Simulation, list[tuple[SimulatedPool, Reading]], bool]) -> None:
        sim, readings, is_full = look
        if sim.now < self._leads_from:
            return
        shares = []
        for pool, reading in readings:
            decision = self._decide_one(sim, pool, reading)
            shares.append(Share(pool, decision))
        for share, (_, reading) in zip(shares, readings, strict=True):
            for name in share.decision.drain:
                sim.record.busy_victims += reading.containers.get(name, (0, 0.0))[0] > 0
                sim.end(share.pool.containers[name])
        self._memory.sharing.settle(sim, shares, is_full=is_full)
        for share in shares:
            self._note(sim, share)

    def _decide_one(self, sim: Simulation, pool: SimulatedPool, reading: Reading) -> Decision:
        history = self._memory.histories.get(pool.name) or PoolHistory.empty(sim.now)
        snapshot = _snapshot(pool, reading, sim.now)
        decision = decide(history, snapshot, self.settings, sim.now)
        self._memory.histories[pool.name] = decision.history
        if serves_alone(snapshot, decision, self.settings):
            self._memory.served.add(pool.name)
        else:
            self._memory.served.discard(pool.name)
        return decision

    def _note(self, sim: Simulation, share: Share) -> None:
        """Remember when to look at the pool again, or forget it."""
        memory, name = self._memory, share.pool.name
        if not (share.decision.start or share.decision.drain):
            memory.unsettled.discard(name)
        if share.decision.retry_at is not None:
            self._plan(sim, share.pool, share.decision.retry_at)
        if not (share.pool.inflight or share.pool.containers):
            # The pool is put away; what it has learned stays.
            for kept in (memory.histories, memory.planned, memory.settled):
                kept.pop(name, None)
            memory.sharing.forget(name)
            memory.served.discard(name)


def _is_dark(sim: Simulation) -> bool:
    return any(begin <= sim.now < end for begin, end in sim.trace.faults.blackouts)


def _read(pool: SimulatedPool) -> Reading:
    seen = {name: (len(c.running), c.idle_since) for name, c in pool.containers.items()}
    return Reading(pool.inflight, pool.submitted, seen)


def _snapshot(pool: SimulatedPool, reading: Reading, now: float) -> PoolSnapshot:
    """The policy's snapshot: what was read, of the containers that the leader knows to be there now."""
    return PoolSnapshot(
        inflight=reading.inflight,
        delayed=0,
        submitted=reading.submitted,
        containers=tuple(
            _view(each, *reading.containers.get(name, (0, math.inf)), now)
            for name, each in pool.containers.items()
        ),
        service_time=pool.service_time,
        start_time=pool.start_time,
    )


def _view(
    container: SimulatedContainer, running: int, idle_since: float, now: float
) -> ContainerView:
    state: ContainerState = "ready" if container.ready_at <= now else "starting"
    if container.draining:
        state = "draining"
    since = container.ready_at if state == "ready" else container.started
    idle_from = max(since, idle_since) if idle_since < math.inf else since
    return ContainerView(
        id=container.id,
        state=state,
        running=running if container.ready_at <= now else 0,
        idle_seconds=0.0 if running else now - idle_from,
        since=since,
        worker=container.box,
    )
