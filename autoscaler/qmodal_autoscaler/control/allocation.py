"""Who gets room: pools that wait for it take turns, and those that have more than a fair share make some."""

from __future__ import annotations

from collections import Counter

from qmodal.store.fleet import WaitingLine
from qmodal_autoscaler.change_log import ChangeLog
from qmodal_autoscaler.cluster.catalog import Catalog
from qmodal_autoscaler.cluster.nodes import Nodes, PlacedContainer
from qmodal_autoscaler.control.judgement import Judgement, PoolDecision
from qmodal_autoscaler.policy.rebalance import STALLED_SECONDS, Donor, StarvedPool, lend
from qmodal_autoscaler.policy.tenure import remaining_seconds
from qmodal_autoscaler.policy.turns import Turn, TurnQueue

# Between two looks for containers that make room.
BALANCE_SECONDS = 0.25
# Pools of which people are told their turn.
MOST_NAMED = 1000
# Subject in the change log.
ROOM = "room"
NO_ROOM = "all places on the boxes are taken: pools that need more containers wait for their turn"


class Allocation:
    """The pools that wait for room (`line`), and the last decision on each pool that has containers."""

    def __init__(self, nodes: Nodes, catalog: Catalog, change_log: ChangeLog) -> None:
        self._nodes = nodes
        self._catalog = catalog
        self._change_log = change_log
        self._made: dict[str, PoolDecision] = {}
        self._balanced = 0.0
        self._granted = 0.0
        self.line = TurnQueue()

    def add(self, judgement: Judgement) -> None:
        """Take in what a pool requests, or that it requests nothing any more."""
        pool, made = judgement.pool, judgement.made
        if judgement.request is not None:
            self.line.enter(judgement.request)
        else:
            self.line.leave(pool)
        if made is not None and made.containers:
            self._made[pool] = made
        else:
            self._made.pop(pool, None)

    def free(self, server_ms: float) -> int:
        """How many containers the boxes take now, ahead of room included."""
        return sum(each.free_slots + each.ahead for each in self._nodes.rooms(server_ms))

    def call(self, count: int, now: float) -> list[Turn]:
        """Whose turn it is for so many containers; they are out of the line."""
        if not self.line:
            self._granted = now
            return []
        holding: Counter[str] = Counter()
        for pool in self._nodes.pools():
            holding[self._catalog.app_of(pool)] += len(self._nodes.of_pool(pool))
        turns = self.line.call(count, holding)
        if turns:
            self._granted = now
        return turns

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
        queued = self._nodes.queued()
        if not (self.line or queued):
            return []
        self._balanced = now
        places = self._nodes.places()
        free = sum(each.free_slots for each in self._nodes.rooms(server_ms))
        if free and queued:
            return queued[:free]  # there is room on another box by now
        taken = lend(
            self._starved(queued, places),
            [_donor(made, now) for made in self._made.values()],
            leaving=self._nodes.leaving() + free,
            most=max(1, places // 2),
            is_stalled=now - self._granted > STALLED_SECONDS,
        )
        chosen = set(taken)
        placed = [held for pool in self._made for held in self._nodes.of_pool(pool)]
        return [held for held in placed if held.container in chosen]

    def _starved(self, queued: list[PlacedContainer], places: int) -> list[StarvedPool]:
        """Pools whose containers wait on their boxes, and the first of those in line."""
        found: dict[str, StarvedPool] = {}
        waiting = Counter(held.pool for held in queued)
        for pool, count in waiting.items():
            made = self._made.get(pool)
            found[pool] = StarvedPool(
                pool=pool,
                have=len(self._nodes.of_pool(pool)) - count,
                unmet=count,
                app=self._catalog.app_of(pool),
                weight=1.0 if made is None else made.terms.weight,
            )
        for request in self.line.front(places):
            found[request.pool] = StarvedPool(
                pool=request.pool,
                have=max(0, request.have - waiting[request.pool]),
                unmet=request.count + waiting[request.pool],
                app=request.app,
                weight=request.weight,
            )
        return list(found.values())

    def forget(self, known: frozenset[str]) -> None:
        """Forget pools that are not active any more."""
        self.line.keep(known)
        for pool in self._made.keys() - known:
            del self._made[pool]


def _donor(made: PoolDecision, now: float) -> Donor:
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
        idle=[] if made.decision.start else idle,
        busy=[(now - each.since, each.id) for each in ready if each.running],
    )
