"""Who gets room: pools that wait for it take turns, and those that have more than a fair share make some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from qmodal.spec.needs.needs import Needs
from qmodal.spec.needs.offer import impossible
from qmodal.store.fleet import WaitingLine
from qmodal_autoscaler.change_log import ChangeLog
from qmodal_autoscaler.cluster.catalog import Catalog
from qmodal_autoscaler.cluster.ledger import Ledger, PoolUse
from qmodal_autoscaler.cluster.nodes import Nodes, PlacedContainer
from qmodal_autoscaler.control.judgement import Judgement, PoolDecision
from qmodal_autoscaler.control.making_room import RoomMaker, Squeeze
from qmodal_autoscaler.policy.placement import Rooms
from qmodal_autoscaler.policy.rebalance import STALLED_SECONDS
from qmodal_autoscaler.policy.reservations import Reservations
from qmodal_autoscaler.policy.room import NOTHING, AppShares, ContainerRequest, Totals
from qmodal_autoscaler.policy.turns import Turn, TurnQueue

# Between two looks for containers that make room.
BALANCE_SECONDS = 0.25
# Pools of which people are told their turn.
MOST_NAMED = 1000
# Subject in the change log.
ROOM = "room"
NO_ROOM = "the boxes have no room for more: pools that need more containers wait for their turn"


class Allocation:
    """The pools that wait for room (`line`), and the last decision on each pool that has containers.

    `unplaceable`: what pools request that no box could ever run. They wait for other boxes, and for no turn.
    `reservations`: boxes that are kept for who has waited for long.
    """

    def __init__(self, nodes: Nodes, catalog: Catalog, change_log: ChangeLog) -> None:
        self._nodes = nodes
        self._catalog = catalog
        self._change_log = change_log
        self._made: dict[str, PoolDecision] = {}
        # Those of them that declare what they need.
        self._declared: set[str] = set()
        self._balanced = 0.0
        self._granted = 0.0
        self._offers = nodes.offers
        self._possible: dict[Needs, bool] = {}
        self._totals = Totals(0)
        self.line = TurnQueue()
        self.unplaceable: dict[str, ContainerRequest] = {}
        self.reservations = Reservations()

    def __contains__(self, pool: str) -> bool:
        """Whether the pool waits: for room, or for a box that could run it."""
        return pool in self.line or pool in self.unplaceable

    def add(self, judgement: Judgement) -> None:
        """Take in what a pool requests, or that it requests nothing any more."""
        pool, made = judgement.pool, judgement.made
        self.unplaceable.pop(pool, None)
        if judgement.request is None:
            self.line.leave(pool)
        else:
            self._enter(judgement.request)
        if made is not None and made.containers:
            self._made[pool] = made
        else:
            self._made.pop(pool, None)
        if pool in self._made and self._made[pool].terms.needs is not NOTHING:
            self._declared.add(pool)
        else:
            self._declared.discard(pool)

    def _enter(self, request: ContainerRequest) -> None:
        if self._is_possible(request.needs):
            self.line.enter(request)
        else:
            self.line.leave(request.pool)
            self.unplaceable[request.pool] = request

    def _is_possible(self, needs: Needs) -> bool:
        """Whether some box could run a container with these needs; while there is no box, one may come."""
        if needs is NOTHING:
            return True
        if needs not in self._possible:
            self._possible[needs] = not impossible(needs, self._nodes.offers)
        return self._possible[needs]

    def refresh(self) -> None:
        """Take in what boxes offer now: who waited for a box may get a turn, and who had one may have lost its box."""
        if self._offers is not self._nodes.offers:
            self._offers, self._possible = self._nodes.offers, {}
            declared = [shape for shape in self.line.shapes if shape.needs is not NOTHING]
            waiting = [each for shape in declared for each in self.line.of_shape(shape)]
            again = [*waiting, *self.unplaceable.values()]
            self.unplaceable = {}
            for request in again:
                self._enter(request)
        self._totals = Totals(self._nodes.places(), self._nodes.offers)

    def ledger(self, server_ms: float) -> Ledger:
        """What there is room for; what containers take beside their places only where that decides."""
        if not (self._declared or self._nodes.is_measured or self._is_any_declared()):
            return Ledger(self._nodes.rooms(server_ms), {})
        uses = {pool: _use(made) for pool, made in self._made.items()}
        return Ledger.of(self._nodes.boxes(), uses, server_ms)

    def _is_any_declared(self) -> bool:
        return any(shape.needs is not NOTHING for shape in self.line.shapes)

    def rest(self, now: float) -> None:
        """Take in that nobody waits."""
        self.reservations = Reservations()
        self._granted = now

    def rooms(self, ledger: Ledger) -> Rooms:
        """The boxes as new containers find them."""
        return Rooms(ledger.rooms, self.reservations.holds)

    def call(self, rooms: Rooms, ledger: Ledger, now: float) -> list[Turn]:
        """Whose turn it is for what is free, and where it is placed; they are out of the line."""
        if rooms.is_full:
            return []
        turns = self.line.call(rooms, self._shares(ledger))
        if not self.line or any(each.request.is_plain for each in turns):
            self._granted = now
        return turns

    def _shares(self, ledger: Ledger) -> AppShares:
        """What each app has."""
        shares = AppShares(self._totals)
        for pool in self._nodes.pools():
            app, made, held = (
                self._catalog.app_of(pool),
                self._made.get(pool),
                self._nodes.of_pool(pool),
            )
            if made is None or made.terms.needs is NOTHING:
                shares.add(app, NOTHING, count=len(held))
                continue
            for each in held:
                placement = ledger.placed.get(each.container)
                gpus = () if placement is None else placement.gpus
                shares.add(app, made.terms.needs, gpus)
        return shares

    def reserve(self, granted: Iterable[Turn], ledger: Ledger, now: float) -> None:
        """Keep boxes for containers that have found no room for long."""
        shapes = {each.request.shape for each in granted}
        line = self.line
        self.reservations.update(line.shapes, shapes, line.take_passed_over(), ledger.rooms, now)

    def wanted(self) -> dict[Needs, int]:
        """What the fleet lacks: how many containers wait for room, or for a box that could run them, by what they need."""
        found: Counter[Needs] = Counter({NOTHING: len(self._nodes.queued())})
        for needs, count in self.line.wanted():
            found[needs] += count
        for request in self.unplaceable.values():
            found[request.needs] += request.count
        return dict(+found)

    def waiting(self) -> WaitingLine | None:
        """The line, as people are told of it; None if nobody waits."""
        queued = [held.pool for held in self._nodes.queued()]
        # Those whose containers wait on their boxes come next.
        pools = dict.fromkeys(queued + [each.pool for each in self.line.front(MOST_NAMED)])
        if not pools:
            return None
        behind = len(self.line) - sum(pool in self.line for pool in pools)
        first = tuple(pools)[:MOST_NAMED]
        return WaitingLine(places=self._nodes.places(), waiting=len(pools) + behind, first=first)

    def note(self) -> None:
        """Log that pools wait for room, once, until none does."""
        if self.line:
            self._change_log.trouble(ROOM, NO_ROOM)
        else:
            self._change_log.settle(ROOM)

    def making_room(self, server_ms: float, now: float) -> list[PlacedContainer]:
        """Containers that are to end, so that pools that wait get their share; busy ones after their input.

        Or those that wait on a full box while another one has room: their pools then ask for others.
        """
        if now - self._balanced < BALANCE_SECONDS:
            return []
        if not (self.line or self._nodes.queued()):
            return []
        self._balanced = now
        ledger = self.ledger(server_ms)
        squeeze = Squeeze(
            ledger=ledger,
            made=self._made,
            totals=self._totals,
            now=now,
            is_stalled=now - self._granted > STALLED_SECONDS,
        )
        return RoomMaker(self._nodes, self._catalog, self.line, self.reservations).choose(squeeze)

    def forget(self, known: frozenset[str]) -> None:
        """Forget pools that are not active any more."""
        self.line.keep(known)
        for pools in (self._made, self.unplaceable):
            for pool in pools.keys() - known:
                del pools[pool]
        self._declared &= known


def _use(made: PoolDecision) -> PoolUse:
    """What a container of the pool takes; while inputs wait, those that run none will do so in a moment."""
    ready = (
        each for each in made.snapshot.containers if each.state == "ready" and not each.running
    )
    idle = frozenset(() if made.decision.start else (each.id for each in ready))
    seen = made.observation
    return PoolUse(made.terms.needs, seen.busy_cpu, seen.memory, idle)
