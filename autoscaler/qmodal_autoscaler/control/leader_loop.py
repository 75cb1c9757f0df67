"""One leadership: look, decide, assign; at hints at once, and at everything every second."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field, replace

from qmodal.client.client import Client
from qmodal.store.observing import Observation
from qmodal.store.sweeper import Sweeper
from qmodal_autoscaler.change_log import ChangeLog
from qmodal_autoscaler.cluster.catalog import Terms, UnknownTermsError
from qmodal_autoscaler.cluster.nodes import Holding, version_key
from qmodal_autoscaler.cluster.observer import ClusterSnapshot, Observer, Wanted
from qmodal_autoscaler.cluster.pool_tracker import PoolTracker
from qmodal_autoscaler.control.assigner import Assigner, Changes, DethronedError
from qmodal_autoscaler.control.maintenance import DetachedApps, Maintenance
from qmodal_autoscaler.control.notifications import Notifications
from qmodal_autoscaler.control.workqueue import WorkQueue
from qmodal_autoscaler.policy.decide import decide
from qmodal_autoscaler.policy.placement import Need
from qmodal_autoscaler.policy.rebalance import Holder, Hungry, lend
from qmodal_autoscaler.policy.state import Decision, Memory, PoolSnapshot

TICK_SECONDS = 1.0
ROUND = "the last round"
SWEEP = "the sweep for lost boxes"
PLACE = "what starts and ends on the boxes"
CHORES = "what waits for its retry, and empty pools"
LEFT = "apps whose client has left"


@dataclass(frozen=True, slots=True)
class Judged:
    """A pool that was judged in this round."""

    terms: Terms
    snapshot: PoolSnapshot
    decision: Decision


@dataclass(slots=True)
class Round:
    """What one round has found so far."""

    sight: ClusterSnapshot
    now: float
    is_full: bool
    changes: Changes = field(default_factory=Changes)
    judged: dict[str, Judged] = field(default_factory=dict)


class LeaderTerm:
    """Everything that a leader knows; it ends with the leadership."""

    def __init__(self, client: Client, epoch: int) -> None:
        self._client = client
        self._journal = journal = ChangeLog()
        self._due = due = WorkQueue()
        self._observer = Observer(client, journal)
        self._wakes = Notifications(client, due, self._observer.fleet.is_served)
        self._assigner = Assigner(client.fleet, self._observer.fleet, epoch, journal)
        self._chores = Maintenance(client, due, journal)
        self._detached = DetachedApps(client, journal)
        self._minds: dict[str, PoolTracker] = {}
        self._hungry: dict[str, float] = {}

    async def rule(self) -> None:
        """Rule until cancelled; raises DethronedError (in a group) once another one leads."""
        async with asyncio.TaskGroup() as group:
            self._chores.group = group
            group.create_task(self._wakes.listen(), name="wake")
            group.create_task(self._look(), name="look")
            group.create_task(self._tick(), name="tick")
            group.create_task(self._sweep(), name="sweep")

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._due.everything()

    async def _sweep(self) -> None:
        sweeper = Sweeper(self._client.keys)
        while True:
            await asyncio.sleep(TICK_SECONDS)
            with self._journal.surviving(SWEEP, "it was not made", settles=True):
                for worker in await self._client.aio(sweeper.sweep()):
                    self._journal.change(worker, "it was lost; what it held is given back")
                    self._due.everything()

    async def _look(self) -> None:
        while True:
            wanted = await self._due.wait()
            surviving = self._journal.surviving
            with surviving(ROUND, "nothing changes", but=(DethronedError,), settles=True):
                await self._round(replace(wanted, pools=wanted.pools | self._hungry.keys()))

    async def _round(self, wanted: Wanted) -> None:
        sight = await self._client.aio(self._observer.look(wanted))
        this = Round(sight, time.monotonic(), wanted.everything)
        for pool in sight.pools:
            with self._journal.surviving(pool, "nothing changes", label=f"pool {pool}"):
                self._judge(pool, this)
        for stranger in self._observer.fleet.strangers():
            this.changes.take_off(stranger)
        await self._carry_out(this)
        if this.is_full:
            self._forget(this)
            with self._journal.surviving(LEFT, "they are not looked at", settles=True):
                await self._tend_detached(sight)

    async def _tend_detached(self, sight: ClusterSnapshot) -> None:
        catalog = self._observer.catalog
        if catalog.is_complete(sight.observations):
            await self._client.aio(self._detached.tend(catalog.records(), sight.observations))

    def _judge(self, pool: str, this: Round) -> None:
        """What should be done about one pool; raises if that cannot be said."""
        observation = this.sight.observations.get(pool)
        if observation is None:
            self._chores.leave(pool)  # refused if there is something in it
        terms = self._observer.catalog.terms(pool)
        holdings = self._observer.fleet.of_pool(pool)
        if terms.ended:
            self._end(pool, terms, this)
            return
        if observation is None:
            raise UnknownTermsError("the server has no record of it")
        for held in holdings:
            if held.report is not None and 0 < held.report.number < terms.least:
                this.changes.take_off(held)
        mind = self._minds.setdefault(pool, PoolTracker(Memory.empty(this.now)))
        silent = mind.unreported(holdings, this.now)
        seen = [held for held in holdings if held not in silent]
        snapshot, decision = self._decide(pool, observation, seen, terms, this.now)
        this.judged[pool] = Judged(terms, snapshot, decision)
        self._want(pool, this, seen, silent)
        self._due.plan(pool, decision.retry_at)
        self._due.looked(pool, is_calm=not (decision.start or decision.drain or decision.retire))
        self._chores.tend(observation, terms, snapshot, decision)
        if decision.give_up:
            self._purge(pool, terms, mind.give_up_reason)

    def _decide(
        self, pool: str, seen: Observation, holdings: list[Holding], terms: Terms, now: float
    ) -> tuple[PoolSnapshot, Decision]:
        mind, server_ms = self._minds[pool], self._observer.server_ms
        try:
            snapshot = mind.see(seen, holdings, terms, now=now, server_ms=server_ms)
            decision = decide(mind.memory, snapshot, terms.settings, now)
        except Exception:
            # What was remembered of the pool may be why, and would be so for as long as we lead.
            del self._minds[pool]
            raise
        mind.memory = decision.memory
        return snapshot, decision

    def _want(self, pool: str, this: Round, holdings: list[Holding], silent: list[Holding]) -> None:
        """Note what the decision means for the boxes."""
        judged = this.judged[pool]
        terms, decision = judged.terms, judged.decision
        leaving = {*decision.drain, *decision.retire}
        for held in holdings:
            if held.is_over or held.container in leaving:
                this.changes.take_off(held)
            if held.is_assigned and held.report is not None and held.report.unfit:
                self._observer.fleet.note_unfit(pool, held.worker)
            if held.is_assigned and held.report is not None and held.report.state == "failed":
                last = held.report.detail.strip().rpartition("\n")[2]
                self._journal.change(terms.label, f"{held.container} did not start: {last}")
        for held in silent:
            self._observer.fleet.avoid(held.worker)
            this.changes.take_off(held)
            self._journal.change(terms.label, f"{held.worker} does not start {held.container}")
        if leaving:
            self._journal.change(terms.label, f"{decision.reason} ({', '.join(sorted(leaving))})")
        if decision.start:
            have = len(judged.snapshot.containers) - len(leaving)
            version = version_key(terms.app, terms.number)
            unfit = self._observer.fleet.unfit_for(pool)
            need = Need(pool=pool, count=decision.start, have=have, version=version, unfit=unfit)
            this.changes.needs.append(need)

    def _end(self, pool: str, terms: Terms, this: Round) -> None:
        """Nothing in the pool will run any more."""
        holdings = self._observer.fleet.of_pool(pool)
        for held in holdings:
            this.changes.take_off(held)
        if any(held.is_assigned for held in holdings):
            self._journal.change(terms.label, f"its containers end: {terms.ended}")
        observation = this.sight.observations.get(pool)
        if observation is not None and observation.inflight:
            self._purge(pool, terms, terms.ended)
        elif observation is not None and not observation.consumers:
            self._chores.leave(pool)

    def _purge(self, pool: str, terms: Terms, reason: str) -> None:
        record = self._observer.catalog.records().get(terms.app)
        current = 0 if record is None else record.version
        self._chores.purge(pool, terms, reason, current=current)

    async def _carry_out(self, this: Round) -> None:
        """Each step by itself: what one of them meets does not keep the others from being taken."""
        surviving = self._journal.surviving
        with surviving(PLACE, "it may be late", but=(DethronedError,), settles=True):
            await self._client.aio(self._chores.say())
            await self._place(this)
        with surviving(CHORES, "it may be late", settles=True):
            await self._client.aio(self._chores.do())

    async def _place(self, this: Round) -> None:
        placed = await self._write(this.changes)
        for pool, judged in this.judged.items():
            self._tell(pool, judged, this.now, placed[pool])
        if this.is_full and self._hungry:
            await self._write(self._share(this, placed))

    async def _write(self, changes: Changes) -> Counter[str]:
        if not (changes.off or changes.needs):
            return Counter()
        return await self._client.aio(self._assigner.write(changes, self._observer.server_ms))

    def _share(self, this: Round, placed: Counter[str]) -> Changes:
        """Where room is missing, take it from pools that have more."""
        hungry = [
            Hungry(
                pool=pool,
                have=len(this.judged[pool].snapshot.containers) + placed[pool],
                unmet=this.judged[pool].decision.start - placed[pool],
                seconds=this.now - since,
            )
            for pool, since in self._hungry.items()
            if pool in this.judged
        ]
        fleet, changes = self._observer.fleet, Changes()
        holders = [_holder(pool, judged) for pool, judged in this.judged.items()]
        taken = set(lend(hungry, holders, leaving=fleet.leaving()))
        for pool, judged in this.judged.items():
            for held in fleet.of_pool(pool):
                if held.container in taken:
                    changes.take_off(held)
                    text = f"{held.container} makes room for a pool that has fewer"
                    self._journal.change(judged.terms.label, text)
        return changes

    def _tell(self, pool: str, judged: Judged, now: float, placed: int) -> None:
        terms, decision = judged.terms, judged.decision
        if placed:
            self._journal.change(terms.label, f"{decision.reason} ({placed} placed)")
        if decision.start > placed:
            self._hungry.setdefault(pool, now)
            text = "no worker has room for all the containers that it needs"
            self._journal.trouble(pool, text, label=terms.label)
        else:
            self._hungry.pop(pool, None)
            self._journal.settle(pool)

    def _forget(self, this: Round) -> None:
        """Whoever is not active any more costs nothing, not even memory."""
        for pool in self._minds.keys() - set(this.sight.pools):
            self._due.forget(pool)
            if not self._minds[pool].is_worth_keeping(this.now):
                del self._minds[pool]
        for pool in self._hungry.keys() - this.judged.keys():
            del self._hungry[pool]


def _holder(pool: str, judged: Judged) -> Holder:
    ready = [each for each in judged.snapshot.containers if each.state == "ready"]
    is_waiting = judged.decision.start > 0
    return Holder(
        pool=pool,
        have=len(ready),
        floor=judged.terms.settings.min_containers,
        idle=[]
        if is_waiting
        else [(each.idle_seconds, each.id) for each in ready if not each.running],
        busy=[each.id for each in ready if each.running],
    )
