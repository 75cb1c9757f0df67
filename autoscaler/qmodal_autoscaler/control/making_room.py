"""Making room: which containers end so that pools which wait get their share, of places or of what else they need."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qmodal_autoscaler.cluster.catalog import Catalog
from qmodal_autoscaler.cluster.ledger import Ledger
from qmodal_autoscaler.cluster.nodes import Nodes, PlacedContainer
from qmodal_autoscaler.control.judgement import PoolDecision
from qmodal_autoscaler.policy.clearing import Clearing
from qmodal_autoscaler.policy.placement import Rooms
from qmodal_autoscaler.policy.rebalance import (
    A_PLACE,
    STALLED_SECONDS,
    Donor,
    StarvedPool,
    lend,
)
from qmodal_autoscaler.policy.reservations import Reservations
from qmodal_autoscaler.policy.room import NOTHING, PLACES, ContainerRequest, Totals
from qmodal_autoscaler.policy.tenure import remaining_seconds
from qmodal_autoscaler.policy.turns import TurnQueue

# Requests for more than a place that are looked at together.
MOST_REQUESTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Squeeze:
    """A moment at which pools wait for room; `made`: the last decisions on pools that have containers.

    `is_stalled`: no place has become free for some time.
    """

    ledger: Ledger
    made: Mapping[str, PoolDecision]
    totals: Totals
    now: float
    is_stalled: bool


class RoomMaker:
    """Chooses the containers that make room for the pools in `line`."""

    def __init__(
        self, nodes: Nodes, catalog: Catalog, line: TurnQueue, reservations: Reservations
    ) -> None:
        self._nodes = nodes
        self._catalog = catalog
        self._line = line
        self._reservations = reservations

    def choose(self, at: Squeeze) -> list[PlacedContainer]:
        """The containers that are to end; busy ones after their input."""
        queued, places = self._nodes.queued(), self._nodes.places()
        rooms = Rooms(at.ledger.rooms, self._reservations.holds)
        if rooms.free and queued:
            return queued[: rooms.free]  # there is room on another box by now
        donors = [self._donor(made, at) for made in at.made.values()]
        most = max(1, places // 2)
        taken = lend(
            self._starved(queued, places, rooms, at),
            donors,
            leaving=len(self._nodes.ending()) + rooms.free,
            most=most,
            is_stalled=at.is_stalled,
        )
        chosen = {*taken, *self._cleared(donors, set(taken), rooms, at, most=most - len(taken))}
        placed = [held for pool in at.made for held in self._nodes.of_pool(pool)]
        return [held for held in placed if held.container in chosen]

    def _starved(
        self, queued: list[PlacedContainer], places: int, rooms: Rooms, at: Squeeze
    ) -> list[StarvedPool]:
        """Pools whose containers wait on their boxes, and the first of those in line that need nothing but a place."""
        found: dict[str, StarvedPool] = {}
        waiting = Counter(held.pool for held in queued)
        for pool, count in waiting.items():
            made = at.made.get(pool)
            found[pool] = StarvedPool(
                pool=pool,
                have=len(self._nodes.of_pool(pool)) - count,
                unmet=count,
                app=self._catalog.app_of(pool),
                weight=1.0 if made is None else made.terms.weight,
            )
        for request in self._line.front(places, is_plain=True):
            found[request.pool] = StarvedPool(
                pool=request.pool,
                have=max(0, request.have - waiting[request.pool]),
                unmet=request.count + waiting[request.pool],
                app=request.app,
                weight=request.weight,
                cpu=_short_of_cpu(request, rooms),
            )
        return list(found.values())

    def _cleared(
        self, donors: Sequence[Donor], taken: set[str], rooms: Rooms, at: Squeeze, *, most: int
    ) -> list[str]:
        """What ends for pools that need more than a place, of who has not been taken already."""
        requests = self._line.front(MOST_REQUESTS, is_plain=False)
        if not requests or most <= 0:
            return []
        placed = at.ledger.placed
        for held in self._nodes.ending():
            if held.container in placed:
                rooms.release(placed[held.container])
        reservations = self._reservations
        kept = {each.pool: reservations.box(each.shape) for each in requests}
        clearing = Clearing(
            rooms,
            {name: placement for name, placement in placed.items() if name not in taken},
            only={pool: worker for pool, worker in kept.items() if worker is not None},
            stalled={
                each.pool
                for each in requests
                if reservations.waited(each.shape, at.now) > STALLED_SECONDS
            },
        )
        starved = {each.pool: (_starved(each, at.totals), each) for each in requests}
        chosen = clearing.choose(starved, donors, most=most)
        reservations.entitle(each.shape for each in requests if each.pool in clearing.entitled)
        return chosen

    def _donor(self, made: PoolDecision, at: Squeeze) -> Donor:
        ready = [each for each in made.snapshot.containers if each.state == "ready"]
        idle = [(each.idle_seconds, each.id) for each in ready if not each.running]
        running = sum(each.running for each in made.snapshot.containers)
        return Donor(
            pool=made.pool,
            have=len(ready),
            floor=made.terms.settings.min_containers,
            start=made.observation.start_time or 0.0,
            service=made.observation.service_time,
            remaining=remaining_seconds(
                waiting=max(0, made.snapshot.inflight - running),
                service=made.observation.service_time,
                slots=made.terms.settings.slots,
                containers=len(ready),
                per_second=made.decision.history.arrivals.per_second,
            ),
            app=made.terms.app,
            weight=made.terms.weight,
            parts=_parts(made, at),
            cpu=made.observation.busy_cpu or 0.0,
            idle=[] if made.decision.start else idle,
            busy=[(at.now - each.since, each.id) for each in ready if each.running],
        )


def _parts(made: PoolDecision, at: Squeeze) -> Mapping[str, float]:
    """What one of its containers takes of each resource, in places."""
    needs = made.terms.needs
    if needs is NOTHING:
        return A_PLACE
    held = (at.ledger.placed.get(each.container) for each in made.containers)
    gpus = next((each.gpus for each in held if each is not None), ())
    return _in_places(at.totals.parts(needs, gpus))


def _starved(request: ContainerRequest, totals: Totals) -> StarvedPool:
    return StarvedPool(
        pool=request.pool,
        have=request.have,
        unmet=request.count,
        app=request.app,
        weight=request.weight,
        parts=_in_places(totals.parts(request.needs, totals.likely(request.needs))),
    )


def _in_places(parts: Mapping[str, float]) -> dict[str, float]:
    """The same with a place as the measure, as it is of those that need nothing else."""
    return {resource: part / parts[PLACES] for resource, part in parts.items()}


def _short_of_cpu(request: ContainerRequest, rooms: Rooms) -> float:
    """CPUs that have to come free for one more container, if nothing else is short; more than there are while unknown."""
    lacks = {rooms.lack(worker, request, request.have) for worker in rooms.able(request.needs)}
    if "cpu" not in lacks:
        return 0.0
    return math.inf if request.cpu is None else request.cpu
