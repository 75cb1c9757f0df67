"""Why a pool waits: what the leader says of it, together with what the pool and the boxes show without one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from qmodal.exception import clause
from qmodal.spec.needs.offer import Offer
from qmodal.store.fleet import ContainerReport, Fleet, WaitingLine
from qmodal.store.server import server_ms
from qmodal.store.watch.boxes import Boxes, BoxRecord
from qmodal.store.watch.observing import Observation
from qmodal.store.watch.reasons import Reason, Reasons
from qmodal.transport.operation import Op
from qmodal.wire.ids import worker_of


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetState:
    """The boxes at one moment (`now`, in ms of the server), and what their leader says of pools that wait.

    `workers` are those with a lease, `containers` what they run or have run lately.
    """

    server: str
    now: float
    workers: tuple[BoxRecord, ...] = ()
    containers: tuple[ContainerReport, ...] = ()
    leader: str | None = None
    reasons: Reasons = field(default_factory=Reasons)
    line: WaitingLine | None = None

    @property
    def places(self) -> int:
        """Containers that all boxes may run."""
        return sum(each.report.max_containers for each in self.workers)

    @property
    def running(self) -> int:
        """Containers that there are."""
        return sum(not each.is_over for each in self.containers)

    def on_box(self, worker: str) -> list[ContainerReport]:
        """The containers that there are on one box."""
        alive = (each for each in self.containers if not each.is_over)
        return [each for each in alive if worker_of(each.container) == worker]

    def of_pool(self, pool: str) -> list[ContainerReport]:
        """The containers of one pool, those that are over included."""
        return [each for each in self.containers if each.pool == pool]


def fleet_state(fleet: Fleet, boxes: Boxes, server: str) -> Op[FleetState]:
    """Look at the boxes. A lease counts until it has ended, not until somebody has given the box up.

    Without a worker and an autoscaler, nobody gives up the last worker.
    """
    leases = yield from fleet.workers()
    now = yield from server_ms()
    living = [worker for worker, ends in leases.items() if ends > now]
    records = yield from boxes.records(living)
    containers = yield from fleet.containers(living)
    return FleetState(
        server=server,
        now=now,
        workers=tuple(records.values()),
        containers=tuple(each for listed in containers.values() for each in listed),
        leader=(yield from fleet.leader()),
        reasons=(yield from fleet.reasons()),
        line=(yield from fleet.line()),
    )


def offer_of(box: BoxRecord) -> Offer:
    """What the box offers to containers."""
    about = box.report
    return Offer.of(cpus=about.cpus, memory=about.memory, gpus=about.gpus, labels=about.labels)


def reason_of(seen: Observation, state: FleetState) -> Reason:
    """Why inputs of the pool wait, or that none has to; the first that holds."""
    return next(_reasons(seen, state))


def is_served(pool: str, state: FleetState) -> bool:
    """Whether a container runs inputs of the pool, or could."""
    return any(not each.is_over and each.state != "starting" for each in state.of_pool(pool))


def _reasons(seen: Observation, state: FleetState) -> Iterator[Reason]:
    if seen.paused:
        yield Reason.of("paused")
    missing = _missing(state)
    if missing is not None and (seen.inflight or not is_served(seen.pool, state)):
        yield missing
    said = state.reasons.of.get(seen.pool)
    if said is not None:
        yield said
    if not seen.inflight:
        yield Reason.of("idle")
    yield from _without_leader(seen, state)
    alive = sum(not each.is_over for each in state.of_pool(seen.pool))
    yield Reason.of("enough", count=alive) if alive else Reason.of("placing")


def _missing(state: FleetState) -> Reason | None:
    if not state.workers and state.leader is None:
        return Reason.of("fleet", server=state.server)
    if not state.workers:
        return Reason.of("workers", server=state.server)
    return Reason.of("autoscaler", server=state.server) if state.leader is None else None


def _without_leader(seen: Observation, state: FleetState) -> Iterator[Reason]:
    """What can be seen of a pool of which the leader has said nothing (yet, or because it names only so many)."""
    own = state.of_pool(seen.pool)
    alive = [each for each in own if not each.is_over]
    if seen.delayed and seen.delayed == seen.inflight:
        yield Reason.of("retry", count=seen.delayed, when="")
    if alive and all(each.state == "starting" for each in alive):
        yield Reason.starting([each.since for each in alive], state.now)
    if own and not alive:
        detail = clause(own[-1].detail or "they end before they are ready")
        yield Reason.of("failing", detail=detail)
    if not alive and state.running >= state.places:
        yield Reason.of("room", detail=f"{state.running} of {state.places} containers run")
