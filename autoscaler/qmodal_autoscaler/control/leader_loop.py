"""The leader's loop: look, judge, assign; for pools with a hint at once, for all pools every second."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qmodal.client.client import Client
from qmodal.spec.needs.needs import Needs
from qmodal.store.watch.observing import Observation
from qmodal.store.watch.sweeper import Sweeper
from qmodal.telemetry.events import BOX_LOST, emit
from qmodal.transport.operation import Op
from qmodal_autoscaler.change_log import ChangeLog
from qmodal_autoscaler.cluster.catalog import Catalog, PoolTerms, UnknownTermsError
from qmodal_autoscaler.cluster.nodes import Nodes
from qmodal_autoscaler.cluster.observer import ClusterSnapshot, DuePools, Observer
from qmodal_autoscaler.cluster.pool_tracker import PoolTracker
from qmodal_autoscaler.control.allocation import Allocation
from qmodal_autoscaler.control.assigner import Assigner, AssignmentChanges, LeadershipLostError
from qmodal_autoscaler.control.judgement import (
    Judgement,
    PoolDecision,
    Purge,
    decided,
    ended,
    outdated,
    undecided,
)
from qmodal_autoscaler.control.maintenance import DetachedApps, Maintenance
from qmodal_autoscaler.control.notifications import Notifications
from qmodal_autoscaler.control.reasons import ReasonBoard, surroundings
from qmodal_autoscaler.control.workqueue import WorkQueue
from qmodal_autoscaler.policy.decide import decide
from qmodal_autoscaler.policy.state import PoolHistory
from qmodal_autoscaler.policy.turns import Turn

if TYPE_CHECKING:
    from qmodal_autoscaler.control.shortage_command import ShortageCommand

# Every pool is looked at about this often, hint or not: hints may be lost.
FULL_LOOK_SECONDS = 1.0
SWEEP_SECONDS = 1.0
# How often a round looks again at pools whose turn it is: some may turn out to need nothing any more.
MOST_CALLS = 3
# Subjects of the change log.
ROUND = "the last round"
SWEEP = "the sweep for lost boxes"
PLACE = "what starts and ends on the boxes"
MAINTENANCE = "what waits for its retry, and empty pools"
LINE = "who waits for room"
DETACHED = "apps whose client has left"
log = logging.getLogger("qmodal.autoscaler")


@dataclass(slots=True)
class SchedulingRound:
    """A look and what follows from it; `now` in monotonic seconds, `is_full`: it was at all pools."""

    cluster: ClusterSnapshot
    now: float
    is_full: bool
    changes: AssignmentChanges = field(default_factory=AssignmentChanges)
    decisions: dict[str, PoolDecision] = field(default_factory=dict)


class LeaderTerm:
    """One leadership: its loops, and all that the leader knows, which is forgotten when it ends.

    `on_judged` is told of each judgement, `on_placed` how many containers a decision has led to, and `on_round` how
    many seconds a round took and whether it was over all pools, if somebody wants to know.
    """

    def __init__(
        self, client: Client, epoch: int, on_shortage: ShortageCommand | None = None
    ) -> None:
        self._client = client
        self._on_shortage = on_shortage
        self._change_log = change_log = ChangeLog()
        self._queue = queue = WorkQueue()
        self._observer = Observer(client, change_log)
        self._allocation = Allocation(self._observer.nodes, self._observer.catalog, change_log)
        self._notifications = Notifications(
            client,
            queue,
            is_served=self._observer.nodes.is_served,
            is_waiting=self._allocation.__contains__,
        )
        self._assigner = Assigner(client.fleet, self._observer.nodes, epoch, change_log)
        self._maintenance = Maintenance(client, queue, change_log)
        self._detached = DetachedApps(client, change_log)
        self._trackers: dict[str, PoolTracker] = {}
        self._seen: dict[str, Observation] = {}
        # Pools that were looked at since detached apps were tended last.
        self._looked: set[str] = set()
        self._has_said = True, True  # a line, reasons
        self.reasons = ReasonBoard()
        self.on_judged: Callable[[Judgement], None] | None = None
        self.on_placed: Callable[[PoolDecision, int], None] | None = None
        self.on_round: Callable[[float, bool], None] | None = None

    @property
    def nodes(self) -> Nodes:
        """The boxes, as this leader knows them."""
        return self._observer.nodes

    @property
    def catalog(self) -> Catalog:
        """The terms of pools, as this leader knows them."""
        return self._observer.catalog

    def wanted(self) -> dict[Needs, int]:
        """What the fleet lacks: how many containers wait for room, or for a box that could run them, by what they need."""
        return self._allocation.wanted()

    def waiting(self) -> Mapping[str, int]:
        """How many pools wait, by the kind of the reason, as was said last."""
        return self.reasons.counts.copy()

    async def run(self) -> None:
        """Lead until cancelled; raises LeadershipLostError (in a group) once another one leads."""
        async with asyncio.TaskGroup() as group:
            self._maintenance.group = group
            group.create_task(self._notifications.listen(), name="notifications")
            group.create_task(self._look(), name="look")
            group.create_task(self._tick(), name="tick")
            group.create_task(self._sweep(), name="sweep")
            if self._on_shortage is not None:
                group.create_task(self._watch_shortage(self._on_shortage), name="shortage")

    async def _watch_shortage(self, command: ShortageCommand) -> None:
        # Most autoscalers have no such command, and what it takes to start one is a mebibyte.
        from qmodal_autoscaler.control.shortage import ShortageWatch

        boxes = self.nodes.boxes
        await ShortageWatch(self._client, command, self.wanted, lambda: len(boxes())).watch()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(FULL_LOOK_SECONDS)
            self._queue.wake_all(is_news=False)

    async def _sweep(self) -> None:
        sweeper = Sweeper(
            self._client.keys, failed_arguments=self._client.settings.failed_arguments
        )
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            with self._change_log.surviving(SWEEP, "it was not made", settles=True):
                for worker in await self._client.aio(sweeper.sweep()):
                    emit(BOX_LOST, worker=worker)
                    self._queue.wake_all()

    async def _look(self) -> None:
        while True:
            due = await self._queue.wait()
            surviving = self._change_log.surviving
            with surviving(ROUND, "nothing changes", but=(LeadershipLostError,), settles=True):
                began, used = time.monotonic(), time.thread_time()
                await self._round(due)
                is_routine = not (due.pools or due.everything)
                self._queue.rest(0.0 if is_routine else time.thread_time() - used)
                if self.on_round is not None:
                    self.on_round(time.monotonic() - began, due.everything)

    async def _round(self, due: DuePools) -> None:
        cluster = await self._client.aio(self._observer.look(due))
        self._queue.spread(cluster.later, FULL_LOOK_SECONDS)
        this = SchedulingRound(cluster, time.monotonic(), due.everything)
        self._judge_all(cluster, this)
        for stranger in self._observer.nodes.strangers():
            this.changes.take_off(stranger)
        await self._carry_out(this)
        if this.is_full:
            self._forget(this)
            with self._change_log.surviving(LINE, "people are not told", settles=True):
                await self._client.aio(self._say(this.now))
            with self._change_log.surviving(DETACHED, "they are not looked at", settles=True):
                await self._tend_detached(cluster)

    def _say(self, now: float) -> Op[None]:
        """Say which pools wait for room, and why each pool waits that does; once more when none does."""
        line, fleet = self._allocation.waiting(), self._client.fleet
        turns = () if line is None else line.first
        server_ms = self._observer.server_ms
        told = self.reasons.told(
            lambda: surroundings(self.nodes, self._allocation, turns, server_ms=server_ms, now=now),
            self.nodes.of_pool,
        )
        says_line, says_reasons = line is not None, bool(told.of)
        if says_line or self._has_said[0]:
            yield from fleet.say_line(line)
        if says_reasons or self._has_said[1]:
            yield from fleet.say_reasons(told)
        self._has_said = says_line, says_reasons

    def _judge_all(self, cluster: ClusterSnapshot, this: SchedulingRound) -> None:
        self._seen |= cluster.observations
        self._looked.update(cluster.pools)
        for pool in cluster.pools:
            self._apply(self._judge(pool, cluster.observations.get(pool), this.now), this)

    async def _tend_detached(self, cluster: ClusterSnapshot) -> None:
        catalog = self._observer.catalog
        if not catalog.is_complete(self._seen):
            return
        unseen = {catalog.app_of(pool) for pool in cluster.known - self._looked}
        self._looked.clear()
        await self._client.aio(self._detached.tend(catalog.records(), self._seen, unseen))

    def _judge(self, pool: str, observation: Observation | None, now: float) -> Judgement:
        """What follows from this look at the pool; it changes nothing but the pool's own tracker.

        What may fail for one pool is guarded where it is called, so that the others are judged.
        """
        try:
            terms = self._observer.catalog.terms(pool)
        except Exception as error:  # the pool's documents may come from another release
            log.debug("pool %s: its terms cannot be told", pool, exc_info=True)
            return undecided(pool, observation, error)
        if terms.ended:
            containers = self._observer.nodes.of_pool(pool)
            current = self._current_version(terms.app)
            return ended(pool, terms, observation, containers, current=current)
        if observation is None:
            return undecided(pool, None, UnknownTermsError("the server has no record of it"))
        try:
            made = self._decide(pool, observation, terms, now)
        except Exception as defect:
            # The pool's tracker may be the reason, and would stay so for as long as this leader leads.
            log.debug("pool %s: the policy failed", pool, exc_info=True)
            self._trackers.pop(pool, None)
            old = outdated(self._observer.nodes.of_pool(pool), terms)
            return undecided(pool, observation, defect, take_off=old)
        reason = self._trackers[pool].give_up_reason
        purge = Purge(terms=terms, reason=reason, current=self._current_version(terms.app))
        nodes = self._observer.nodes
        return decided(
            made, unfit=nodes.unfit_for(pool), purge=purge, is_measured=nodes.is_measured
        )

    def _decide(
        self, pool: str, observation: Observation, terms: PoolTerms, now: float
    ) -> PoolDecision:
        placed = self._observer.nodes.of_pool(pool)
        tracker = self._trackers.setdefault(pool, PoolTracker(PoolHistory.empty(now)))
        unstarted = tracker.unreported(placed, now)
        containers = [each for each in placed if each not in unstarted]
        server_ms = self._observer.server_ms
        snapshot = tracker.see(observation, containers, terms, now=now, server_ms=server_ms)
        return PoolDecision(
            pool=pool,
            terms=terms,
            observation=observation,
            containers=tuple(containers),
            unstarted=tuple(unstarted),
            snapshot=snapshot,
            decision=decide(tracker.history, snapshot, terms.settings, now),
        )

    def _current_version(self, app: str) -> int:
        record = self._observer.catalog.records().get(app)
        return 0 if record is None else record.version

    def _apply(self, judgement: Judgement, this: SchedulingRound) -> None:
        """Apply a judgement: pass all that follows from it to the parts that act. The only place for that."""
        pool, label = judgement.pool, judgement.label
        if judgement.error is not None:
            self._change_log.failed(pool, "nothing changes", judgement.error, label=label)
        for text in judgement.messages:
            self._change_log.change(label, text, subject=pool)
        if self.on_judged is not None:
            self.on_judged(judgement)
        this.changes.add(judgement)
        self._allocation.add(judgement)
        tracker = self._trackers.get(pool)
        self.reasons.judged(judgement, "" if tracker is None else tracker.detail)
        self._observer.nodes.note(judgement.unresponsive, pool=pool, unfit=judgement.unfit)
        self._maintenance.add(judgement)
        made = judgement.made
        if made is not None:
            this.decisions[pool] = made
            self._trackers[pool].history = made.decision.history
            self._queue.plan(pool, made.decision.retry_at)
            self._queue.looked(pool, is_calm=made.is_steady)

    async def _carry_out(self, this: SchedulingRound) -> None:
        """Place containers, then do the maintenance, also if the placing has failed."""
        surviving = self._change_log.surviving
        with surviving(PLACE, "it may be late", but=(LeadershipLostError,), settles=True):
            await self._client.aio(self._maintenance.announce_served())
            await self._place(this)
        with surviving(MAINTENANCE, "it may be late", settles=True):
            await self._client.aio(self._maintenance.carry_out())

    async def _place(self, this: SchedulingRound) -> None:
        turns = await self._granted(this)
        this.changes.placements = [each for turn in turns for each in turn.placements]
        placed = await self._write(this.changes)
        wanted = Counter(each.pool for each in this.changes.placements)
        for pool, count in wanted.items():
            self._note_placed(this.decisions[pool], this.now, count, placed[pool])
        for pool, made in this.decisions.items():
            if pool in self._allocation and not made.containers:
                self._queue.waits(pool)
        more = AssignmentChanges()
        for held in self._allocation.making_room(self._observer.server_ms, this.now):
            more.take_off(held)
            self._queue.look(held.pool)
            if held.report is not None:
                text = f"{held.container} makes room for a pool that has fewer"
                self._change_log.change(held.report.label, text, subject=held.pool)
                self.reasons.lent(held.pool, this.now)
        await self._write(more)
        self._allocation.note()

    async def _granted(self, this: SchedulingRound) -> list[Turn]:
        """What is placed now: of the pools that wait those whose turn it is, looked at again if that was not just now."""
        allocation, granted = self._allocation, list[Turn]()
        allocation.refresh()
        if not allocation.line:
            allocation.rest(this.now)
            return []
        ledger = allocation.ledger(self._observer.server_ms)
        rooms = allocation.rooms(ledger)
        for _ in range(MOST_CALLS):
            stale: list[str] = []
            for turn in allocation.call(rooms, ledger, this.now):
                if turn.request.pool in this.decisions:
                    allocation.line.granted(turn)
                    granted.append(turn)
                else:
                    stale.append(turn.request.pool)
                    for each in turn.placements:
                        rooms.release(each)
            if not stale:
                break
            cluster = await self._client.aio(self._observer.look_again(stale))
            self._judge_all(cluster, this)
        allocation.reserve(granted, ledger, this.now)
        return granted

    async def _write(self, changes: AssignmentChanges) -> Counter[str]:
        if not (changes.off or changes.placements):
            return Counter()
        return await self._client.aio(self._assigner.write(changes))

    def _note_placed(self, made: PoolDecision, now: float, wanted: int, placed: int) -> None:
        """Log how many of the new containers found room, and look again if that was less than was meant."""
        if placed:
            text = f"{made.decision.reason} ({placed} placed)"
            self._change_log.change(made.terms.label, text, subject=made.pool)
            if self.on_placed is not None:
                self.on_placed(made, placed)
        if placed < wanted:
            self._queue.plan_no_later(made.pool, now + FULL_LOOK_SECONDS)

    def _forget(self, this: SchedulingRound) -> None:
        """Forget pools that are not active any more, so that they cost no memory."""
        known = this.cluster.known
        for pool in self._trackers.keys() - known:
            self._queue.forget(pool)
            if not self._trackers[pool].is_worth_keeping(this.now):
                del self._trackers[pool]
        for pool in self._seen.keys() - known:
            del self._seen[pool]
        self._allocation.forget(known)
        self.reasons.keep(known)
