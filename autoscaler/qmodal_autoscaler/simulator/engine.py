"""The engine: arrivals, starts, inputs and ends of containers as discrete events, one after another."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable
from typing import Any, Protocol

from qmodal_autoscaler.simulator.pools import QueuedInput, SimulatedContainer, SimulatedPool
from qmodal_autoscaler.simulator.record import InputRecord, Lifetime, Record
from qmodal_autoscaler.simulator.traces.trace import Arrival, Trace

# A policy that never scales to zero is cut off this long after the last input has come.
LONGEST_TAIL_SECONDS = 7200.0


class Scaler(Protocol):
    """A policy, as the engine calls it. It changes the pools through `Simulation.start` and `end`.

    `period`: seconds between two rounds over all pools; `most_recent`: inputs go to the container that was
    busy last, where the streams of Redis give them to the one that has waited longest.
    """

    period: float
    most_recent: bool

    def arrived(self, sim: Simulation, pool: SimulatedPool) -> None:
        """An input has come."""

    def changed(self, sim: Simulation, pool: SimulatedPool) -> None:
        """A container is ready, has died, or has ended after its last input."""

    def round(self, sim: Simulation) -> None:
        """A period is over."""


class Simulation:
    """One trace under one policy. Everything that happens follows from the trace and its seed.

    `record` is what comes of it; `alive`: containers that have not gone; `active`: pools with inputs or containers.
    `knows_times`: pools begin with the mean service and start times of the trace, as one that has run before.
    """

    def __init__(self, trace: Trace, scaler: Scaler, *, knows_times: bool = True) -> None:
        self.trace, self.now, self.alive = trace, 0.0, 0
        self.pools: dict[str, SimulatedPool] = {}
        self.active: dict[str, SimulatedPool] = {}
        self._scaler, self._knows_times = scaler, knows_times
        self._means = _means(trace) if knows_times else {}
        self._events: list[tuple[float, int, Callable[..., None], Any]] = []
        self._serials = itertools.count()
        self._names = itertools.count()
        self._rounds_planned = False
        self._chance = random.Random(trace.name)
        self.record = Record(trace=trace)

    def run(self) -> Record:
        """Run until all inputs have settled and all containers have gone."""
        arrivals, number = self.trace.arrivals, 0
        until = self.trace.end + LONGEST_TAIL_SECONDS
        while True:
            coming = arrivals[number].at if number < len(arrivals) else math.inf
            due = self._events[0][0] if self._events else math.inf
            if min(coming, due) > until:
                break
            if coming <= due:
                self.now = coming
                self._arrive(arrivals[number], number)
                number += 1
            else:
                self.now, _, act, argument = heapq.heappop(self._events)
                act(argument)
        for pool in self.pools.values():
            for container in list(pool.containers.values()):
                self._gone(container)
        return self.record

    def plan(self, at: float, act: Callable[..., None], argument: Any = None) -> None:
        """Call `act(argument)` at that moment."""
        heapq.heappush(self._events, (max(at, self.now), next(self._serials), act, argument))

    def start(self, pool: SimulatedPool, count: int, box: str = "") -> None:
        """Start containers of a pool, as many as there is room for."""
        if self.trace.room is not None:
            count = min(count, self.trace.room - self.alive)
        for _ in range(count):
            container = SimulatedContainer(f"c{next(self._names)}", pool, self.now, box)
            pool.containers[container.id] = container
            self.alive += 1
            self.plan(self.now + self.trace.start_time, self._ready, container)
            if self.trace.faults.death_rate:
                life = self._chance.expovariate(self.trace.faults.death_rate)
                self.plan(self.now + life, self._die, container)
        if count > 0:
            self._activate(pool)
            self.record.moves.append((self.now, count))

    def end(self, container: SimulatedContainer) -> None:
        """End a container: one that runs something finishes it first, and takes nothing new."""
        if container.gone or container.draining:
            return
        container.draining = True
        self.record.moves.append((self.now, -1))
        if not container.running:
            self._gone(container)

    def _arrive(self, arrival: Arrival, number: int) -> None:
        pool = self.pools.get(arrival.pool)
        if pool is None:
            pool = self.pools[arrival.pool] = SimulatedPool(
                arrival.pool, self.trace.slots, self.trace.window
            )
            if self._knows_times:
                pool.service_time = self._means[arrival.pool]
                pool.start_time = self.trace.start_time
        pool.submitted += 1
        pool.queue.append(QueuedInput(arrival.at, arrival.service, number))
        self._activate(pool)
        self._deliver(pool)
        self._scaler.arrived(self, pool)

    def _activate(self, pool: SimulatedPool) -> None:
        self.active[pool.name] = pool
        if not self._rounds_planned:
            self._rounds_planned = True
            period = self._scaler.period
            self.plan((math.floor(self.now / period) + 1) * period, self._round)

    def _round(self, _: None) -> None:
        for name in [
            n for n, each in self.active.items() if not (each.inflight or each.containers)
        ]:
            del self.active[name]
        self._scaler.round(self)
        self._rounds_planned = bool(self.active)
        if self.active:
            self.plan(self.now + self._scaler.period, self._round)

    def _ready(self, container: SimulatedContainer) -> None:
        if container.gone or container.draining:
            return
        container.ready_at = container.idle_since = self.now
        container.pool.learn_start(self.now - container.started)
        self._offer(container)
        self._deliver(container.pool)
        self._scaler.changed(self, container.pool)

    def _offer(self, container: SimulatedContainer) -> None:
        if not container.is_free and len(container.running) < self.trace.slots:
            container.is_free = True
            container.pool.free.append(container)

    def _deliver(self, pool: SimulatedPool) -> None:
        free = pool.free
        while pool.queue and free:
            container = free.pop() if self._scaler.most_recent else free.popleft()
            container.is_free = False
            if container.draining:
                continue
            work = pool.queue.popleft()
            container.running[work.number] = work
            self.record.inputs[work.number] = InputRecord(
                pool.name,
                work.at,
                self.now,
                is_cold=work.at < container.ready_at and not container.has_run,
            )
            container.has_run = True
            self.plan(self.now + work.service, self._finish, (container, work))
            self._offer(container)

    def _finish(self, done: tuple[SimulatedContainer, QueuedInput]) -> None:
        container, work = done
        if container.gone:
            return
        pool = container.pool
        del container.running[work.number]
        pool.settled += 1
        pool.learn_service(work.service)
        if not container.running:
            container.idle_since = self.now
        if container.draining:
            if not container.running:
                self._gone(container)
                self._scaler.changed(self, pool)
            return
        self._offer(container)
        self._deliver(pool)

    def _die(self, container: SimulatedContainer) -> None:
        """The container is lost; what it ran comes back to the head of the queue."""
        if container.gone:
            return
        pool = container.pool
        pool.queue.extendleft(reversed(container.running.values()))
        self.record.deaths += 1
        self._gone(container)
        self._deliver(pool)
        self._scaler.changed(self, pool)

    def _gone(self, container: SimulatedContainer) -> None:
        container.gone = container.draining = True
        del container.pool.containers[container.id]
        self.alive -= 1
        self.record.lives.append(Lifetime(container.pool.name, container.started, self.now))


def _means(trace: Trace) -> dict[str, float]:
    """The mean service time of each pool."""
    sums: dict[str, tuple[float, int]] = {}
    for each in trace.arrivals:
        total, count = sums.get(each.pool, (0.0, 0))
        sums[each.pool] = total + each.service, count + 1
    return {pool: total / count for pool, (total, count) in sums.items()}
