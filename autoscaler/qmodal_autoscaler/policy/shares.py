"""Shares: what a pool or an app has of the resource of which it has most, and what all boxes offer together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qmodal.spec.needs.gpus import Gpu
from qmodal.spec.needs.needs import Needs
from qmodal.spec.needs.offer import Offer
from qmodal_autoscaler.policy.room import NOTHING, GpuShare

PLACES, CPU, MEMORY = "places", "cpu", "memory"


class Totals:
    """What all boxes offer together: places, CPUs, memory, and GPUs of each kind."""

    def __init__(self, places: int, offers: Iterable[Offer] = ()) -> None:
        offers = list(offers)
        self._places = max(1, places)
        self._cpus = sum(each.cpus for each in offers)
        self._memory = sum(each.memory for each in offers)
        self._gpus: Sequence[Gpu] = [gpu for each in offers for gpu in each.gpus]
        self._units: dict[Needs, float] = {NOTHING: 1 / self._places}

    def unit(self, needs: Needs) -> float:
        """The dominant share of one container with these needs: its part of the resource of which it takes most."""
        found = self._units.get(needs)
        if found is None:
            gpus = [
                need.amount / max(1, sum(map(need.fits, self._gpus)))
                for need in needs.gpus
                if any(map(need.fits, self._gpus))
            ]
            found = max([*self.parts(needs).values(), *gpus])
            self._units[needs] = found
        return found

    def likely(self, needs: Needs) -> tuple[GpuShare, ...]:
        """GPUs that a container with these needs gets: of the first alternative that some box has."""
        for need in needs.gpus:
            fitting = [gpu for gpu in self._gpus if need.fits(gpu)]
            if fitting:
                return (GpuShare(fitting[0], need.shares),) * need.count
        return ()

    def parts(self, needs: Needs, gpus: Iterable[GpuShare] = ()) -> dict[str, float]:
        """The part that a container with these GPUs takes of each resource."""
        found = {PLACES: 1 / self._places}
        if needs is NOTHING:
            return found
        if needs.cpu and self._cpus:
            found[CPU] = needs.cpu / self._cpus
        if needs.memory and self._memory:
            found[MEMORY] = needs.memory / self._memory
        for gpu, shares in gpus:
            there = sum(each.kind == gpu.kind for each in self._gpus)
            found[gpu.kind] = found.get(gpu.kind, 0.0) + 1 / (shares * max(1, there))
        return found


class AppShares:
    """What each app has of each resource, as parts of what all boxes offer."""

    def __init__(self, totals: Totals) -> None:
        self.totals = totals
        self._parts: dict[str, dict[str, float]] = {}
        self._shares: dict[str, float] = {}

    def of(self, app: str) -> float:
        """The app's dominant share: its part of the resource of which it has most."""
        return self._shares.get(app, 0.0)

    def add(self, app: str, needs: Needs, gpus: Iterable[GpuShare] = (), *, count: int = 1) -> None:
        """The app has so many more containers with these needs, each with these GPUs."""
        parts = self._parts.setdefault(app, {})
        for resource, part in self.totals.parts(needs, gpus).items():
            parts[resource] = parts.get(resource, 0.0) + count * part
        self._shares[app] = max(parts.values())
