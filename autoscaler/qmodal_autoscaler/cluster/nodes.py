"""The boxes as the leader sees them: what each was assigned, what it reports, and its room."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace

from qmodal.spec.needs.gpus import Gpu
from qmodal.spec.needs.offer import Offer
from qmodal.store.fleet import ContainerReport, Fleet, WorkerReport, living
from qmodal.store.watch.boxes import Boxes, BoxRecord
from qmodal.transport.operation import Op
from qmodal.transport.sharing.gather import all_of
from qmodal.wire.ids import is_pool_id
from qmodal_autoscaler.policy.room import WorkerRoom

# A box that does not start a container, or cannot decode an input, is avoided for this long.
AVOID_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class PlacedContainer:
    """A container of a pool on a box: assigned, reported, or both.

    `is_queued`: it was assigned ahead, and its box has no room for it yet. `is_cordoned`: its box is.
    """

    container: str
    pool: str
    worker: str
    report: ContainerReport | None
    is_assigned: bool
    is_queued: bool = False
    is_cordoned: bool = False

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

    `assigned`: container → pool, what it should run; `reports`: container → report, what it does run. `declared`:
    what it says that it offers; `offer`: the same without GPUs that another living box has; `is_cordoned`: somebody has said that it gets nothing new.
    """

    worker: str
    lease: float = 0.0
    report: WorkerReport | None = None
    assigned: dict[str, str] = field(default_factory=dict)
    reports: dict[str, ContainerReport] = field(default_factory=dict)
    avoided: float = 0.0
    declared: Offer | None = None
    offer: Offer | None = None
    is_cordoned: bool = False

    def describe(self, record: BoxRecord) -> None:
        """Take in what its record says."""
        if record.report != self.report:
            self.declared = self.offer = _offer(record.report)
        self.report, self.is_cordoned = record.report, record.cordon.is_closed

    def containers(self) -> Iterator[PlacedContainer]:
        """The box's containers, including those that are over and not cleared away yet."""
        for container, report in self.reports.items():
            is_assigned = container in self.assigned
            yield PlacedContainer(
                container,
                report.pool,
                self.worker,
                report,
                is_assigned,
                is_cordoned=self.is_cordoned,
            )
        is_queued = self.is_full
        for container, pool in self.assigned.items():
            if container not in self.reports:
                yield PlacedContainer(
                    container, pool, self.worker, None, True, is_queued, self.is_cordoned
                )

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

    def closed(self, server_ms: float) -> str:
        """Why it takes no container now; empty if it may."""
        if self.report is None:
            return "its record cannot be read"
        if self.is_cordoned:
            return "it is cordoned"
        if self.is_closing:
            return "it is about to stop"
        if self.lease <= server_ms:
            return "it has not renewed its lease"
        if self.avoided > time.monotonic():
            return "it did not start what it was assigned a moment ago"
        return ""

    def room(self, server_ms: float) -> WorkerRoom:
        """The places for more containers; none if the box may be dead, is about to stop, is cordoned or avoided."""
        closed = self.closed(server_ms)
        if closed or self.report is None:
            return WorkerRoom(id=self.worker, free_slots=0, closed=closed)
        free = self.report.max_containers - sum(not held.is_over for held in self.containers())
        warm = {version_key(each.app, each.number) for each in self.reports.values()}
        ahead = self.report.ahead + min(0, free)
        return WorkerRoom(
            id=self.worker, free_slots=max(0, free), warm=frozenset(warm), ahead=max(0, ahead)
        )


class Nodes:
    """All boxes and what each runs, as the leader knows them.

    Only the leader changes assignments, so what it knows of them stays true between two looks. `offers` are what
    boxes offer, cordoned ones too; another tuple whenever something of it has changed. `is_measured`: some box takes as many
    containers as it carries, by what they were measured to use.
    """

    def __init__(self, fleet: Fleet, records: Boxes) -> None:
        self._fleet = fleet
        self._records = records
        self.offers: tuple[Offer, ...] = ()
        self.is_measured = False
        self._boxes: dict[str, Box] = {}
        self._by_pool: dict[str, list[PlacedContainer]] = {}
        self._unfit: dict[tuple[str, str], float] = {}

    def survey(self, leases: dict[str, float]) -> list[Op[None]]:
        """Take in which boxes there are (worker → end of its lease); returns operations that read them.

        The records of all boxes are read, in one pipeline: what a box offers may change at any time, and it may be
        cordoned. Containers are read of new boxes and those that have some: nobody but the leader gives any to the others.
        """
        alive = living(leases)
        fresh = [worker for worker in alive if worker not in self._boxes]
        self._boxes = {worker: box for worker, box in self._boxes.items() if worker in alive} | {
            worker: Box(worker) for worker in fresh
        }
        for worker in alive:
            self._boxes[worker].lease = leases[worker]
        self.arrange()
        read = [
            self._read(box)
            for box in self._boxes.values()
            if box.assigned or box.reports or box.worker in fresh
        ]
        return [self._describe(alive), *read] if alive else []

    def read_boxes_of(self, pools: Collection[str]) -> list[Op[None]]:
        """Operations that read the boxes on which the pools have containers."""
        workers = {held.worker for pool in pools for held in self.of_pool(pool)}
        return [self._read(self._boxes[worker]) for worker in workers if worker in self._boxes]

    def arrange(self) -> None:
        """Sort the containers by pool, and the GPUs by box; needed after every change."""
        self._by_pool = {}
        self._share_out()
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
        """The places of each box, whatever else its containers take."""
        return [box.room(server_ms) for box in self._boxes.values()]

    def queued(self) -> list[PlacedContainer]:
        """The containers that were assigned ahead and wait for room on their box."""
        return [held for box in self._boxes.values() for held in box.containers() if held.is_queued]

    def places(self) -> int:
        """How many containers all boxes may run at once."""
        reports = [box.report for box in self._boxes.values()]
        return sum(each.max_containers for each in reports if each is not None)

    def ending(self) -> list[PlacedContainer]:
        """The living containers that will make room: they are not assigned any more, or end by themselves."""
        return [
            held
            for box in self._boxes.values()
            for held in box.containers()
            if held.is_leaving or not (held.is_assigned or held.is_over)
        ]

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

    def _describe(self, workers: list[str]) -> Op[None]:
        records = yield from self._records.records(workers)
        for worker, record in records.items():
            if worker in self._boxes:
                self._boxes[worker].describe(record)

    def _share_out(self) -> None:
        """Note what each box offers: a GPU that two of them report is that of the one which has leased it, or came first."""
        declared = {box.worker: box.declared for box in self._boxes.values() if box.declared}
        uuids = [gpu.uuid for offer in declared.values() for gpu in offer.gpus]
        if len(set(uuids)) < len(uuids):
            owner = {
                uuid: box.worker
                for box in self._boxes.values()
                for report in box.reports.values()
                if not report.is_over
                for uuid in report.gpus
            }
            for worker, offer in declared.items():
                gpus = [gpu for gpu in offer.gpus if owner.setdefault(gpu.uuid, worker) == worker]
                declared[worker] = replace(offer, gpus=tuple(gpus))
        for worker, offer in declared.items():
            self._boxes[worker].offer = offer
        reports = [box.report for box in self._boxes.values()]
        self.is_measured = any(each is not None and each.is_measured for each in reports)
        if (offers := tuple(declared.values())) != self.offers:
            self.offers = offers

    def _read(self, box: Box) -> Op[None]:
        worker = box.worker
        assigned, containers = yield from all_of(
            self._fleet.assigned([worker]), self._fleet.containers([worker])
        )
        # What cannot be read stays as it was: only the leader assigns, and a box lives on without it.
        box.assigned = assigned.get(worker, box.assigned)
        if worker in containers:
            box.reports = {report.container: report for report in containers[worker]}


def _offer(report: WorkerReport) -> Offer:
    """What the box of that report offers; GPUs that cannot be read are left out."""
    gpus = [gpu for gpu in map(Gpu.parse, report.gpus) if gpu is not None]
    return Offer(
        cpus=report.cpus, memory=report.memory, gpus=tuple(gpus), labels=tuple(report.labels)
    )


def version_key(app: str, number: int) -> str:
    """The name of an app version, as `place` compares it."""
    return f"{app}:{number}"
