"""Room for containers as values: what a pool requests of boxes, what each box has left, and what share that is."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from qmodal.spec.needs.gpus import Gpu, GpuNeed
from qmodal.spec.needs.needs import MEBIBYTE, Needs
from qmodal.spec.needs.offer import Offer

# Resources beside GPUs, whose kinds are named as they are.
PLACES, CPU, MEMORY = "places", "cpu", "memory"
# What a function needs that declares nothing.
NOTHING = Needs()


class Shape(NamedTuple):
    """What the containers of a pool take, about: pools of one shape wait in one line, as all of them fit or none.

    `cpu` and `memory` are what was measured, up to the next power of two; None where that does not decide.
    """

    needs: Needs
    cpu: float | None = None
    memory: float | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing but a place is asked for, in some region perhaps."""
        return _is_plain(self.needs)


PLAIN = Shape(NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRequest:
    """A pool that wants `count` more containers, has `have`, and runs the app `version`.

    `unfit`: boxes that could not decode its inputs, taken only if there is no other. `weight`: its share beside
    other pools of its `app`. `is_long`: many inputs wait in it. `cpu` and `memory`: CPUs and bytes that its
    containers were measured to use, which counts on boxes that take as many as they carry.
    """

    pool: str
    count: int
    have: int = 0
    version: str = ""
    unfit: frozenset[str] = frozenset()
    app: str = ""
    weight: float = 1.0
    is_long: bool = False
    needs: Needs = NOTHING
    cpu: float | None = None
    memory: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it asks for nothing but a place, in some region perhaps."""
        return _is_plain(self.needs)

    @property
    def shape(self) -> Shape:
        """What its containers take, about."""
        if self.needs is NOTHING and self.cpu is None and self.memory is None:
            return PLAIN
        return Shape(self.needs, _about(self.cpu, 1 / 64), _about(self.memory, 64 * MEBIBYTE))


class GpuRoom(NamedTuple):
    """A GPU of a box: it is cut in so many shares, of which some are `taken`; a whole one is a cut in 1."""

    gpu: Gpu
    cut: int = 1
    taken: int = 0


class GpuShare(NamedTuple):
    """A GPU that a container has, or one of so many shares of it."""

    gpu: Gpu
    shares: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRoom:
    """A worker with room for `free_slots` more containers; `warm` are the versions it has loaded.

    Beyond these it takes as many as `ahead`, which it starts as there is room. `cpu` and `memory` (bytes) are what
    is left of what it offers, below zero if more is used; `pools`: how many containers each pool has there.
    `is_measured`: nobody has said how many containers it may run, so what pools use decides. `closed`: why it takes
    nothing at all now, empty if it does.
    """

    id: str
    free_slots: int
    warm: frozenset[str] = frozenset()
    ahead: int = 0
    offer: Offer | None = None
    cpu: float = math.inf
    memory: float = math.inf
    gpus: tuple[GpuRoom, ...] = ()
    pools: Mapping[str, int] = field(default_factory=dict)
    is_measured: bool = False
    closed: str = ""


def pick(need: GpuNeed, gpus: Sequence[GpuRoom], without: Collection[int] = ()) -> tuple[int, ...]:
    """Which of the GPUs (their places in the list) fit the need best: fewer than it wants if there are no more.

    Those with the least memory, and of one kind if there are enough; for a share one of which most is taken already. A
    worker chooses by the same rule.
    """
    able = [
        place
        for place, each in enumerate(gpus)
        if place not in without and need.fits(each.gpu) and _is_free(each, need)
    ]
    able.sort(key=lambda place: (-gpus[place].taken, gpus[place].gpu.memory))
    kinds = dict.fromkeys(gpus[place].gpu.kind for place in able) if need.count > 1 else ()
    alike = [[place for place in able if gpus[place].gpu.kind == kind] for kind in kinds]
    chosen = next((group for group in alike if len(group) >= need.count), able)
    return tuple(chosen[: need.count])


def _is_free(room: GpuRoom, need: GpuNeed) -> bool:
    if not room.taken:
        return True
    return 1 < need.shares == room.cut and room.taken < room.cut


def _is_plain(needs: Needs) -> bool:
    if needs is NOTHING:
        return True
    return needs.cpu is None and needs.memory is None and not needs.gpus


def _about(value: float | None, least: float) -> float | None:
    """The next power of two of so many times the least."""
    if value is None:
        return None
    return float(least * 2 ** math.ceil(math.log2(max(value, least) / least)))


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
