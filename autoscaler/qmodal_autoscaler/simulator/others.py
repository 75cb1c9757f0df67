"""Simplified policies of other systems, by the defaults that they publish: not those systems themselves."""

from __future__ import annotations

import math
from collections import deque

from qmodal_autoscaler.simulator.engine import Simulation
from qmodal_autoscaler.simulator.pools import SimulatedContainer, SimulatedPool


class Recent:
    """Values of the last so many seconds, with their mean and their maximum."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._values: deque[tuple[float, float]] = deque()

    def add(self, now: float, value: float) -> None:
        """Add a value, and drop those that are too old."""
        self._values.append((now, value))
        while self._values[0][0] <= now - self._seconds:
            self._values.popleft()

    @property
    def mean(self) -> float:
        """Their mean."""
        return sum(value for _, value in self._values) / len(self._values)

    @property
    def highest(self) -> float:
        """The highest of them."""
        return max(value for _, value in self._values)


class PeriodicPolicy:
    """A policy that computes a number of containers for each pool, once in a period.

    Ends idle containers only, those that have waited longest first, which is kind to the systems meant.
    """

    period = 1.0
    most_recent = False

    def arrived(self, sim: Simulation, pool: SimulatedPool) -> None:
        """Nothing: the next round will see it."""

    def changed(self, sim: Simulation, pool: SimulatedPool) -> None:
        """Nothing: the next round will see it."""

    def round(self, sim: Simulation) -> None:
        """Compute the number for each active pool, and start or end what is missing or too many."""
        for pool in list(sim.active.values()):
            self.resize(sim, pool, self.desired(sim, pool))

    def desired(self, sim: Simulation, pool: SimulatedPool) -> int:
        """How many containers the pool should have."""
        raise NotImplementedError

    def resize(self, sim: Simulation, pool: SimulatedPool, desired: int) -> None:
        """Start what is missing, or end what is too many and idle."""
        size = len(pool.containers)
        if desired > size:
            sim.start(pool, desired - size)
        elif desired < size:
            for container in sorted(idle(pool), key=lambda c: c.idle_since)[: size - desired]:
                sim.end(container)


def idle(pool: SimulatedPool) -> list[SimulatedContainer]:
    """The ready containers of a pool that run nothing."""
    return [c for c in pool.containers.values() if c.ready_at < math.inf and not c.running]


class NaivePolicy(PeriodicPolicy):
    """A container for each input in flight, once a second; each ends by its own idle timer."""

    def desired(self, sim: Simulation, pool: SimulatedPool) -> int:
        """As many as the inputs in flight fill, and never fewer than there are."""
        return max(len(pool.containers), math.ceil(pool.inflight / pool.slots))

    def round(self, sim: Simulation) -> None:
        """End what has been idle for the window, then start what is missing."""
        for pool in sim.active.values():
            for container in idle(pool):
                if sim.now - container.idle_since >= pool.window and not pool.queue:
                    sim.end(container)
        super().round(sim)


class NaiveRecentPolicy(NaivePolicy):
    """The same, where inputs go to the container that was busy last."""

    most_recent = True


class KedaPolicy(PeriodicPolicy):
    """KEDA's scaler for Redis streams with the Kubernetes autoscaler: five inputs in flight a container.

    From zero within a polling interval of 30 s; then every 15 s, at most double or four more, down to the
    highest number of the last 300 s; to zero after 300 s without inputs.
    """

    period = 15.0
    target, tolerance, stabilization, cooldown = 5, 0.1, 300.0, 300.0

    def __init__(self) -> None:
        self._wanted: dict[str, Recent] = {}
        self._quiet_since: dict[str, float] = {}

    def desired(self, sim: Simulation, pool: SimulatedPool) -> int:
        """By the rule of the Kubernetes autoscaler over the inputs in flight."""
        size = len(pool.containers)
        if pool.inflight:
            self._quiet_since.pop(pool.name, None)
        quiet = (
            sim.now - self._quiet_since.setdefault(pool.name, sim.now) if not pool.inflight else 0
        )
        if not size:
            is_poll = sim.now % 30 == 0
            return 1 if pool.inflight and is_poll else 0
        if quiet >= self.cooldown:
            return 0
        wanted = max(1, math.ceil(pool.inflight / (self.target * pool.slots)))
        if abs(pool.inflight / (self.target * pool.slots * size) - 1) <= self.tolerance:
            wanted = size
        recent = self._wanted.setdefault(pool.name, Recent(self.stabilization))
        recent.add(sim.now, wanted)
        return min(max(2 * size, size + 4), max(wanted, int(recent.highest)))


class KnativePolicy(PeriodicPolicy):
    """Knative's pod autoscaler: the mean concurrency of 60 s over 70 % of a container's, every 2 s.

    In panic, when that of 6 s asks for twice what is ready, it only grows. The first input starts one at
    once; the last container stays for 30 s.
    """

    period = 2.0
    target, stable, panic, grace = 0.7, 60.0, 6.0, 30.0

    def __init__(self) -> None:
        self._stable: dict[str, Recent] = {}
        self._panic: dict[str, Recent] = {}
        self._panic_until: dict[str, tuple[float, int]] = {}
        self._zero_since: dict[str, float] = {}

    def arrived(self, sim: Simulation, pool: SimulatedPool) -> None:
        """The activator: one container at once if there is none."""
        if not pool.containers:
            sim.start(pool, 1)

    def desired(self, sim: Simulation, pool: SimulatedPool) -> int:
        """By the two windows, and the panic mode."""
        name, target = pool.name, self.target * pool.slots
        stable = self._stable.setdefault(name, Recent(self.stable))
        panic = self._panic.setdefault(name, Recent(self.panic))
        stable.add(sim.now, pool.inflight)
        panic.add(sim.now, pool.inflight)
        ready = max(1, pool.ready)
        wanted, urgent = math.ceil(stable.mean / target), math.ceil(panic.mean / target)
        wanted = max(wanted, ready // 2) if wanted else wanted
        until, least = self._panic_until.get(name, (-math.inf, 0))
        if urgent / ready >= 2:
            until = sim.now + self.stable
        if sim.now < until:
            least = max(least, wanted, urgent)
            self._panic_until[name] = until, least
            return least
        self._panic_until.pop(name, None)
        return wanted or self._last(sim, pool)

    def _last(self, sim: Simulation, pool: SimulatedPool) -> int:
        """One until nothing was wanted for the grace period."""
        if pool.inflight:
            self._zero_since.pop(pool.name, None)
            return 1
        since = self._zero_since.setdefault(pool.name, sim.now)
        return 0 if sim.now - since >= self.grace else 1


class RayServePolicy(PeriodicPolicy):
    """Ray Serve: two ongoing requests a replica, averaged over 30 s, from zero at once.

    A wish for more has to last 30 s, one for fewer 600 s.
    """

    period = 1.0
    target, look_back, upscale_delay, downscale_delay = 2.0, 30.0, 30.0, 600.0

    def __init__(self) -> None:
        self._ongoing: dict[str, Recent] = {}
        self._since: dict[str, tuple[int, float]] = {}

    def desired(self, sim: Simulation, pool: SimulatedPool) -> int:
        """By the mean of ongoing requests, once the wish has lasted."""
        size = len(pool.containers)
        recent = self._ongoing.setdefault(pool.name, Recent(self.look_back))
        recent.add(sim.now, pool.inflight)
        if not size:
            self._since.pop(pool.name, None)
            return 1 if pool.queue else 0
        wanted = math.ceil(recent.mean / (self.target * pool.slots))
        wanted = max(wanted, 1) if size > 1 else wanted
        direction = (wanted > size) - (wanted < size)
        before, since = self._since.get(pool.name, (0, sim.now))
        if direction != before:
            since = sim.now
        self._since[pool.name] = direction, since
        delay = self.upscale_delay if direction > 0 else self.downscale_delay
        if not direction or sim.now - since < delay:
            return size
        self._since.pop(pool.name)
        return wanted
