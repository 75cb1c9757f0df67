"""Placement of new containers: on which box the next one of a pool fits best, and why it fits on none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from qmodal.spec.needs.counted import ASSUMED_CPU, ASSUMED_MEMORY
from qmodal.spec.needs.gpus import GpuNeed
from qmodal.spec.needs.needs import MEBIBYTE, Needs
from qmodal_autoscaler.policy.room import (
    NOTHING,
    ContainerRequest,
    GpuRoom,
    GpuShare,
    Shape,
    WorkerRoom,
    pick,
)

# What is free of a box is a sum of decimals.
EPSILON = 1e-6
# What a box has too little of; empty if a container fits.
Lack = Literal["", "places", "memory", "cpu", "gpus"]


class Placement(NamedTuple):
    """A container of a pool on a box, and what it takes there; `is_ahead`: not before there is room for it."""

    pool: str
    worker: str
    cpu: float = 0.0
    memory: float = 0.0
    gpus: tuple[GpuShare, ...] = ()
    is_ahead: bool = False


@dataclass(slots=True)
class _Box:
    """A box while it is filled. `hold`: what is kept free there for requests of one shape."""

    room: WorkerRoom
    slots: int
    ahead: int
    cpu: float
    memory: float
    gpus: list[GpuRoom]
    hold: Shape | None = None
    pools: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of_room(cls, room: WorkerRoom, hold: Shape | None) -> _Box:
        """The box with what it has free now."""
        free = (room.free_slots, room.ahead, room.cpu, room.memory)
        return cls(room, *free, list(room.gpus), hold)

    @property
    def plain(self) -> int:
        """How many containers of pools that declare nothing it takes now."""
        slots = self.slots - (self.hold is not None and not self.hold.is_plain)
        if self.room.is_measured:
            slots = min(slots, int(self.cpu / ASSUMED_CPU))
        return max(0, slots)

    def lack(self, request: ContainerRequest, have: int) -> Lack:
        """What it has too little of for one more container of a pool that has so many."""
        return "places" if self.slots <= self._kept_places(request) else self.short(request, have)

    def short(self, request: ContainerRequest, have: int) -> Lack:
        """What it has too little of beside places."""
        if request.is_plain and not self.room.is_measured:
            return ""
        hold = self._kept_from(request)
        memory = self.memory_of(request)
        if memory and memory > self.memory - self._kept_memory(hold) + EPSILON:
            return "memory"
        # Processors are shared: the first container of a pool that declares nothing waits for none to be free.
        is_shared = not have and request.needs.cpu is None and not self._kept_cpu(hold)
        cpu = 0.0 if is_shared else self.cpu_of(request)
        if cpu and cpu > self.cpu - self._kept_cpu(hold) + EPSILON:
            return "cpu"
        return "gpus" if request.needs.gpus and self._picked(request) is None else ""

    def takes_ahead(self, request: ContainerRequest, have: int) -> bool:
        """Whether such a container may be assigned before there is a place: it starts as soon as there is one.

        Whatever else is free then, so it must need nothing that has to be leased.
        """
        if not request.is_plain or self.slots > 0 or self.ahead <= 0:
            return False
        return not self.short(request, have)

    def cpu_of(self, request: ContainerRequest) -> float:
        """CPUs that a container takes here."""
        return self._counted(request.needs.cpu, request.cpu, ASSUMED_CPU)

    def memory_of(self, request: ContainerRequest) -> float:
        """Bytes that a container takes here, as far as that decides."""
        return self._counted(request.needs.memory, request.memory, ASSUMED_MEMORY)

    def _counted(self, declared: float | None, used: float | None, assumed: float) -> float:
        """What counts here: what is declared, else what was measured, if the box takes as many as it carries."""
        if declared is not None:
            return declared
        if not self.room.is_measured:
            return 0.0
        return assumed if used is None else used

    def _kept_places(self, request: ContainerRequest) -> int:
        return int(self._kept_from(request) is not None)

    def _kept_from(self, request: ContainerRequest) -> Shape | None:
        """What is kept free here, if it is for others."""
        return self.hold if self.hold is not None and self.hold != request.shape else None

    def _picked(self, request: ContainerRequest) -> tuple[int, tuple[int, ...]] | None:
        """The first of the alternatives that is free, by its number, and which GPUs; None if none is."""
        without = self._kept_gpus(self._kept_from(request))
        for number, need in enumerate(request.needs.gpus):
            found = pick(need, self.gpus, without)
            if len(found) == need.count:
                return number, found
        return None

    def _kept_cpu(self, hold: Shape | None) -> float:
        if hold is None:
            return 0.0
        return self._counted(hold.needs.cpu, hold.cpu, ASSUMED_CPU)

    def _kept_memory(self, hold: Shape | None) -> float:
        if hold is None:
            return 0.0
        return self._counted(hold.needs.memory, hold.memory, ASSUMED_MEMORY)

    def _kept_gpus(self, hold: Shape | None) -> tuple[int, ...]:
        """The GPUs that are kept: those that the first alternative which this box has would get."""
        if hold is None or self.room.offer is None:
            return ()
        able = [need for need in hold.needs.gpus if self.room.offer.has(need)]
        return pick(able[0], self.gpus) if able else ()

    def of(self, request: ContainerRequest, *, is_ahead: bool = False) -> Placement:
        """The container that is placed here next."""
        found = self._picked(request)
        gpus: tuple[GpuShare, ...] = ()
        if found is not None:
            shares = request.needs.gpus[found[0]].shares
            gpus = tuple(GpuShare(self.gpus[place].gpu, shares) for place in found[1])
        return Placement(
            request.pool,
            self.room.id,
            self.cpu_of(request),
            self.memory_of(request),
            gpus,
            is_ahead=is_ahead,
        )

    def change(self, placement: Placement, sign: int) -> None:
        """Take what the container takes (1), or give it back (-1)."""
        if placement.is_ahead:
            self.ahead -= sign
        else:
            self.slots -= sign
        self.cpu -= sign * placement.cpu
        self.memory -= sign * placement.memory
        self.pools[placement.pool] += sign
        for gpu, shares in placement.gpus:
            for place, room in enumerate(self.gpus):
                if room.gpu.uuid == gpu.uuid:
                    self.gpus[place] = GpuRoom(room.gpu, shares, max(0, room.taken + sign))

    def rank(self, request: ContainerRequest) -> tuple[object, ...]:
        """The box with the lowest rank gets the container; it fits there."""
        is_unfit, is_cold = self.room.id in request.unfit, request.version not in self.room.warm
        if request.is_plain:
            return is_unfit, -self.slots, is_cold, self.room.id
        number, found = self._picked(request) or (0, ())
        memory = sum(self.gpus[place].gpu.memory for place in found)
        is_fresh = any(not self.gpus[place].taken for place in found)
        others = self.pools[request.pool] + self.room.pools.get(request.pool, 0)
        left = sum(not each.taken for each in self.gpus)
        # A box with fewer GPUs left is filled first, so that those for which several are needed find them on one.
        tight = left if request.needs.gpus else 0
        rank = (is_unfit, number, memory, is_fresh, others, tight, self.cpu, is_cold)
        return *rank, self.room.id


class Rooms:
    """The boxes while containers are placed on them, one after another.

    `holds`: boxes that are kept for the containers of one shape, as far as these need them.
    """

    def __init__(
        self, workers: Iterable[WorkerRoom], holds: Mapping[str, Shape] | None = None
    ) -> None:
        holds = holds or {}
        self._boxes = {room.id: _Box.of_room(room, holds.get(room.id)) for room in workers}
        self._able: dict[Needs, list[_Box]] = {}
        self._left = sum(each.slots + each.ahead for each in self._boxes.values())

    @property
    def is_full(self) -> bool:
        """Whether no box takes any further container, ahead of room included."""
        return self._left <= 0

    @property
    def free(self) -> int:
        """How many containers of pools that declare nothing the boxes take now, not ahead of room."""
        return sum(each.plain for each in self._boxes.values() if not each.room.closed)

    def take(self, request: ContainerRequest, have: int) -> Placement | None:
        """Place one more container of the pool, which has so many; None if it fits on no box."""
        able = self._able_for(request.needs)
        fitting = [box for box in able if not box.lack(request, have)]
        if fitting:
            chosen = min(fitting, key=lambda box: box.rank(request))
            found = chosen.of(request)
        else:
            later = [box for box in able if box.takes_ahead(request, have)]
            if not later:
                return None
            chosen = min(later, key=lambda box: _rank_ahead(box, request))
            found = chosen.of(request, is_ahead=True)
        self.change(found, 1)
        return found

    def release(self, placement: Placement) -> None:
        """Give back what a container takes."""
        self.change(placement, -1)

    def change(self, placement: Placement, sign: int) -> None:
        """Take what the container takes (1), or give it back (-1)."""
        box = self._boxes.get(placement.worker)
        if box is not None:
            box.change(placement, sign)
            self._left -= sign

    def able(self, needs: Needs) -> list[str]:
        """The boxes that take containers now, and that could run one with these needs if they were empty."""
        return [box.room.id for box in self._able_for(needs)]

    def lack(self, worker: str, request: ContainerRequest, have: int) -> Lack:
        """What such a box has too little of for one more container of the pool."""
        return self._boxes[worker].lack(request, have)

    def _able_for(self, needs: Needs) -> list[_Box]:
        found = self._able.get(needs)
        if found is None:
            found = self._able[needs] = [
                box
                for box in self._boxes.values()
                if not box.room.closed and (needs is NOTHING or not _lacks(box.room, needs))
            ]
        return found


def explain(
    request: ContainerRequest,
    workers: Iterable[WorkerRoom],
    holds: Mapping[str, Shape] | None = None,
) -> dict[str, str]:
    """For each box why a container of the pool does not fit there now; empty where it does."""
    return {
        room.id: _why_not(request, room, None if holds is None else holds.get(room.id))
        for room in workers
    }


def _why_not(request: ContainerRequest, room: WorkerRoom, hold: Shape | None) -> str:
    never = room.closed or _lacks(room, request.needs)
    if never:
        return never
    lack = _Box.of_room(room, None).lack(request, request.have)
    if lack:
        return _too_little(lack, request, room)
    if _Box.of_room(room, hold).lack(request, request.have):
        return "what is free there is kept for a container that has waited for long"
    return ""


def _too_little(lack: Lack, request: ContainerRequest, room: WorkerRoom) -> str:
    box = _Box.of_room(room, None)
    match lack:
        case "memory":
            free, needed = max(0.0, room.memory) / MEBIBYTE, box.memory_of(request) / MEBIBYTE
            return f"{free:.0f} MiB of its memory are free, and {needed:.0f} are needed"
        case "cpu":
            free, needed = max(0.0, room.cpu), box.cpu_of(request)
            return f"{free:g} of its CPUs are free, and {needed:g} are needed"
        case "gpus":
            return f"too few of its GPUs are free: {_free_gpus(request.needs.gpus, room)}"
        case _:
            return "all its places are taken"


def _free_gpus(needs: tuple[GpuNeed, ...], room: WorkerRoom) -> str:
    parts = []
    for need in needs:
        fitting = sum(need.fits(each.gpu) for each in room.gpus)
        if fitting >= need.count:
            free = len(pick(replace(need, count=fitting), room.gpus))
            parts.append(f"{free} of {fitting} for {need}")
    return ", ".join(parts)


def _lacks(room: WorkerRoom, needs: Needs) -> str:
    if room.offer is None:
        return "it does not say what it offers" if needs != NOTHING else ""
    return room.offer.lacks(needs)


def _rank_ahead(box: _Box, request: ContainerRequest) -> tuple[object, ...]:
    is_unfit, is_cold = box.room.id in request.unfit, request.version not in box.room.warm
    return is_unfit, -box.ahead, is_cold, box.room.id
