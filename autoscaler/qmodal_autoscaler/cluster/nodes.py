"""The boxes as the leader sees them: what each was assigned, what it reports, and its room."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from qmodal.store.fleet import ContainerReport, Fleet, WorkerReport, living
from qmodal.transport.operation import Op
from qmodal.transport.sharing.gather import all_of
from qmodal.wire.ids import is_pool_id
from qmodal_autoscaler.policy.placement import WorkerRoom

# A box that does not start a container, or cannot decode an input, is avoided for this long.
AVOID_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class PlacedContainer:
    """A container of a pool on a box: assigned, reported, or both.

    `is_queued`: it was assigned ahead, and its box has no room for it yet.
    """

    container: str
    pool: str
    worker: str
    report: ContainerReport | None
    is_assigned: bool
    is_queued: bool = False

    @property
    def is_over(self) -> bool:
        """Whether it has failed or ended, as its box reports."""
        return self.report is not None and self.report.is_over

    @property
    def is_leaving(self) -> bool:
        """Whether it lives, and ends by itself, as its box reports: others have to run what comes."""
        return self.report is not None and self.report.leaving and not self.is_over


@dataclass(slots=True)
class Box:
    """A box; `lease`: when it ends, in ms of the server; `avoided`: until when, in monotonic seconds.

    `assigned`: container → pool, what it should run; `reports`: container → report, what it does run.
    """

    worker: str
    lease: float = 0.0
    report: WorkerReport | None = None
    assigned: dict[str, str] = field(default_factory=dict)
    reports: dict[str, ContainerReport] = field(default_factory=dict)
    avoided: float = 0.0

    def containers(self) -> Iterator[PlacedContainer]:
        """The box's containers, including those that are over and not cleared away yet."""
        for container, report in self.reports.items():
            is_assigned = container in self.assigned
            yield PlacedContainer(container, report.pool, self.worker, report, is_assigned)
        is_queued = self.is_full
        for container, pool in self.assigned.items():
            if container not in self.reports:
                yield PlacedContainer(container, pool, self.worker, None, True, is_queued)

    @property
    def is_full(self) -> bool:
        """Whether the box takes assignments ahead, and as many containers live there as may."""
        about = self.report
        if about is None or not about.ahead:
            return False
        return sum(not each.is_over for each in self.reports.values()) >= about.max_containers

    @property
    def is_closing(self) -> bool:
        """Whether the box is about to stop: it drains containers that are still assigned."""
        return any(
            report.state == "draining" and container in self.assigned
            for container, report in self.reports.items()
        )

    def room(self, server_ms: float) -> WorkerRoom:
        """The room for more containers; none if the box may be dead, is about to stop, or is avoided."""
        if self.report is None or self.is_closing:
            return WorkerRoom(id=self.worker, free_slots=0)
        if self.lease <= server_ms or self.avoided > time.monotonic():
            return WorkerRoom(id=self.worker, free_slots=0)
        free = self.report.max_containers - sum(not held.is_over for held in self.containers())
        warm = {version_key(each.app, each.number) for each in self.reports.values()}
        ahead = self.report.ahead + min(0, free)
        return WorkerRoom(
            id=self.worker, free_slots=max(0, free), warm=frozenset(warm), ahead=max(0, ahead)
        )


class Nodes:
    """All boxes and what each runs, as the leader knows them.

    Only the leader changes assignments, so what it knows of them stays true between two looks.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._boxes: dict[str, Box] = {}
        self._by_pool: dict[str, list[PlacedContainer]] = {}
        self._unfit: dict[tuple[str, str], float] = {}

    def survey(self, leases: dict[str, float]) -> list[Op[None]]:
        """Take in which boxes there are (worker → end of its lease); returns operations that read them.

        Only new boxes and those with containers are read. Nobody but the leader gives containers to the
        others, so an idle fleet costs nothing.
        """
        alive = living(leases)
        fresh = [worker for worker in alive if worker not in self._boxes]
        self._boxes = {worker: box for worker, box in self._boxes.items() if worker in alive} | {
            worker: Box(worker) for worker in fresh
        }
        for worker in alive:
            self._boxes[worker].lease = leases[worker]
        self.arrange()
        holding = [box for box in self._boxes.values() if box.assigned or box.reports]
        return [self._introduce(self._boxes[worker]) for worker in fresh] + [
            self._read(box) for box in holding
        ]

    def read_boxes_of(self, pools: Collection[str]) -> list[Op[None]]:
        """Operations that read the boxes on which the pools have containers."""
        workers = {held.worker for pool in pools for held in self.of_pool(pool)}
        return [self._read(self._boxes[worker]) for worker in workers if worker in self._boxes]

    def arrange(self) -> None:
        """Sort the containers by pool; needed after every change."""
        self._by_pool = {}
        for box in self._boxes.values():
            for held in box.containers():
                self._by_pool.setdefault(held.pool, []).append(held)

    def boxes(self) -> list[Box]:
        """All boxes."""
        return list(self._boxes.values())

    def pools(self) -> set[str]:
        """The pools that have containers somewhere."""
        return set(filter(is_pool_id, self._by_pool))

    def strangers(self) -> list[PlacedContainer]:
        """Containers whose pool has no valid id, so that somebody else has put them on the boxes."""
        odd = [held for pool, held in self._by_pool.items() if not is_pool_id(pool)]
        return [held for listed in odd for held in listed]

    def of_pool(self, pool: str) -> list[PlacedContainer]:
        """The pool's containers."""
        return self._by_pool.get(pool, [])

    def is_served(self, pool: str) -> bool:
        """Whether a container of the pool was ready at the last look."""
        return any(
            held.report and held.report.state == "ready" and not held.is_leaving
            for held in self.of_pool(pool)
        )

    def rooms(self, server_ms: float) -> list[WorkerRoom]:
        """The room of each box."""
        return [box.room(server_ms) for box in self._boxes.values()]

    def queued(self) -> list[PlacedContainer]:
        """The containers that were assigned ahead and wait for room on their box."""
        return [held for box in self._boxes.values() for held in box.containers() if held.is_queued]

    def places(self) -> int:
        """How many containers all boxes may run at once."""
        reports = [box.report for box in self._boxes.values()]
        return sum(each.max_containers for each in reports if each is not None)

    def leaving(self) -> int:
        """How many living containers will make room: they are not assigned any more, or end by themselves."""
        return sum(
            held.is_leaving or not (held.is_assigned or held.is_over)
            for box in self._boxes.values()
            for held in box.containers()
        )

    def is_known(self, container: str, worker: str) -> bool:
        """Whether the box has a container of that id, assigned or reported."""
        box = self._boxes[worker]
        return container in box.assigned or container in box.reports

    def avoid(self, worker: str) -> None:
        """Place nothing on the box for AVOID_SECONDS."""
        if worker in self._boxes:
            self._boxes[worker].avoided = time.monotonic() + AVOID_SECONDS

    def note(self, unresponsive: Iterable[str], *, pool: str, unfit: Iterable[str]) -> None:
        """Avoid boxes that do not start what they are assigned, or cannot decode the pool's inputs.

        For AVOID_SECONDS; the latter are avoided for this pool only, if there is another box.
        """
        for worker in unresponsive:
            self.avoid(worker)
        for worker in unfit:
            self._unfit[pool, worker] = time.monotonic() + AVOID_SECONDS

    def unfit_for(self, pool: str) -> frozenset[str]:
        """The boxes that were lately found unable to decode an input of the pool."""
        now = time.monotonic()
        self._unfit = {pair: until for pair, until in self._unfit.items() if until > now}
        return frozenset(worker for each, worker in self._unfit if each == pool)

    def assigned(self, worker: str, changes: dict[str, str | None]) -> None:
        """Take in changes that were written (container → pool, None: taken off); then call `arrange`."""
        box = self._boxes.get(worker)
        if box is not None:
            merged = {**box.assigned, **changes}
            box.assigned = {name: pool for name, pool in merged.items() if pool is not None}

    def _introduce(self, box: Box) -> Op[None]:
        reports, _ = yield from all_of(self._fleet.reports([box.worker]), self._read(box))
        box.report = next(iter(reports), None)

    def _read(self, box: Box) -> Op[None]:
        worker = box.worker
        assigned, containers = yield from all_of(
            self._fleet.assigned([worker]), self._fleet.containers([worker])
        )
        # What cannot be read stays as it was: only the leader assigns, and a box lives on without it.
        box.assigned = assigned.get(worker, box.assigned)
        if worker in containers:
            box.reports = {report.container: report for report in containers[worker]}


def version_key(app: str, number: int) -> str:
    """The name of an app version, as `place` compares it."""
    return f"{app}:{number}"
