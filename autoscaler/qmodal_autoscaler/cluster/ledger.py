"""What the containers of the boxes take there, and what is left: the ground on which new ones are placed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from qmodal.spec.needs.counted import counted_cpu, counted_memory
from qmodal.spec.needs.gpus import Gpu, GpuNeed
from qmodal.spec.needs.needs import Needs
from qmodal_autoscaler.cluster.nodes import Box, PlacedContainer
from qmodal_autoscaler.policy.placement import Placement
from qmodal_autoscaler.policy.room import (
    NOTHING,
    GpuRoom,
    GpuShare,
    WorkerRoom,
    pick,
)


@dataclass(frozen=True, slots=True)
class PoolUse:
    """What a container of a pool takes: as declared, else as measured (None: not yet). `idle`: those that run nothing."""

    needs: Needs = NOTHING
    cpu: float | None = None
    memory: int | None = None
    idle: frozenset[str] = frozenset()


UNKNOWN = PoolUse()


@dataclass(slots=True)
class Ledger:
    """The room of each box, and what each living container takes there."""

    rooms: list[WorkerRoom]
    placed: dict[str, Placement]

    @classmethod
    def of(cls, boxes: Iterable[Box], uses: Mapping[str, PoolUse], server_ms: float) -> Ledger:
        """The books of these boxes; `uses`: what the containers of each pool take."""
        rooms: list[WorkerRoom] = []
        placed: dict[str, Placement] = {}
        for box in boxes:
            page = _Page(box, uses)
            rooms.append(page.room(server_ms))
            placed.update(page.placed)
        return cls(rooms, placed)


class _Page:
    """The books of one box."""

    def __init__(self, box: Box, uses: Mapping[str, PoolUse]) -> None:
        self._box = box
        self._gpus = [GpuRoom(gpu) for gpu in ([] if box.offer is None else box.offer.gpus)]
        self._places = {each.gpu.uuid: place for place, each in enumerate(self._gpus)}
        self._is_measured = box.report is not None and box.report.is_measured
        self.placed: dict[str, Placement] = {}
        living = [each for each in box.containers() if not each.is_over]
        self._pools = Counter(each.pool for each in living)
        # What boxes have leased is a fact; what they will lease for the others is counted behind that.
        for held in sorted(living, key=_is_leased, reverse=True) if self._gpus else living:
            self.placed[held.container] = self._placement(held, uses.get(held.pool, UNKNOWN))

    def room(self, server_ms: float) -> WorkerRoom:
        """What is left."""
        offer = self._box.offer
        room = self._box.room(server_ms)
        if offer is None:
            return room
        return replace(
            room,
            offer=offer,
            cpu=offer.cpus - sum(each.cpu for each in self.placed.values()),
            memory=offer.memory - sum(each.memory for each in self.placed.values()),
            gpus=tuple(self._gpus),
            pools=self._pools,
            is_measured=self._is_measured,
        )

    def _placement(self, held: PlacedContainer, use: PoolUse) -> Placement:
        gpus = self._gpus_of(held, use.needs)
        self._take(gpus)
        # One that waits for a place takes what it needs beside that as soon as there is one.
        cpu, memory, is_ahead = self._cpu(held, use), self._memory(use), held.is_queued
        return Placement(held.pool, held.worker, cpu, memory, gpus, is_ahead)

    def _cpu(self, held: PlacedContainer, use: PoolUse) -> float:
        is_idle = held.container in use.idle
        return counted_cpu(use.needs, use.cpu, is_measured=self._is_measured, is_idle=is_idle)

    def _memory(self, use: PoolUse) -> float:
        return counted_memory(use.needs, use.memory, is_measured=self._is_measured)

    def _gpus_of(self, held: PlacedContainer, needs: Needs) -> tuple[GpuShare, ...]:
        """Those that were leased to it, else those that it will probably get; none if its code asks for none."""
        report = held.report
        if report is not None and report.gpus:
            gpus = [
                self._gpus[self._places[uuid]].gpu for uuid in report.gpus if uuid in self._places
            ]
            shares = _shares(needs, gpus, len(report.gpus))
            return tuple(GpuShare(gpu, shares) for gpu in gpus)
        if report is None or report.state == "starting":
            for need in needs.gpus:
                found = pick(need, self._gpus)
                if len(found) == need.count:
                    return tuple(GpuShare(self._gpus[place].gpu, need.shares) for place in found)
        return ()

    def _take(self, gpus: Iterable[GpuShare]) -> None:
        for gpu, shares in gpus:
            place = self._places[gpu.uuid]
            self._gpus[place] = GpuRoom(gpu, shares, self._gpus[place].taken + 1)


def _is_leased(held: PlacedContainer) -> bool:
    return held.report is not None and bool(held.report.gpus)


def _shares(needs: Needs, gpus: list[Gpu], count: int) -> int:
    """In how many shares the GPUs that a container has are cut, by the alternative that it got."""

    def is_got(need: GpuNeed) -> bool:
        return need.count == count and all(map(need.fits, gpus))

    return next((need.shares for need in needs.gpus if is_got(need)), 1)
