"""Sweeps lost boxes: gives them up and reclaims what their containers held; workers and the autoscaler run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qmodal.config import FAILED_ARGUMENTS
from qmodal.exception import ConnectionError
from qmodal.store.entries import TakenBack
from qmodal.store.fleet import LEASE_MS, Fleet
from qmodal.store.history.accounts import Accounts, tell_taken_back
from qmodal.store.keys import Keys
from qmodal.store.pools import Pools
from qmodal.store.watch.observing import Observing
from qmodal.transport.defects import survive
from qmodal.transport.operation import Op, ask_one
from qmodal.wire.ids import is_pool_id, worker_of

# Between two looks: for longer than that somebody stood still, the server or we, and nobody knows
# what the boxes could do meanwhile. It then counts as one ordinary look.
GAP_MS, LOOK_MS = 2_000, 1_000
# A sweep that the server gets to later than this after it was asked sees leases of its own pause.
LATE_MS = 1_000
AUDIT_MS = 10_000
LOST_BOX = "its worker was lost"


@dataclass(slots=True)
class FleetWatch:
    """Which boxes had the time of a lease to renew theirs and did not; times in ms of the server.

    A server that was stopped, or a sweeper that was cut off, finds every lease ended. Whoever
    believed that at once would take the work of the whole fleet away. So a box is overdue when its
    lease has ended and, since it was last renewed, the server was there for the time of a lease.
    Pauses are left out of that time and do not begin it anew: a server that stands still again and
    again would else never find a lost box.
    """

    last: int = 0
    _seen: dict[str, tuple[float, int]] = field(default_factory=dict)  # end of the lease, and time

    def look(self, now: int, leases: Mapping[str, float]) -> dict[str, float]:
        """Note a look at when the leases end; those of boxes that are to be given up, or were (0)."""
        passed = self._passed(now)
        self.last = now
        self._seen = {box: (ends, self._time(box, ends, passed)) for box, ends in leases.items()}
        return {
            box: ends
            for box, (ends, time) in self._seen.items()
            if not ends or (ends <= now and time >= LEASE_MS)
        }

    def _passed(self, now: int) -> int:
        """The time since the look before that counts."""
        gap = now - self.last
        if not self.last or gap < 0:
            return 0
        return gap if gap <= GAP_MS else LOOK_MS

    def _time(self, box: str, ends: float, passed: int) -> int:
        before, time = self._seen.get(box, (ends, -passed))
        return time + passed if before == ends else 0


class Sweeper:
    """Run `sweep` once a second, with any driver; `own` is a worker that is never cleared here."""

    def __init__(
        self, keys: Keys, *, own: str = "", failed_arguments: int = FAILED_ARGUMENTS
    ) -> None:
        self._fleet = Fleet(keys)
        self._pools = Pools(keys, failed_arguments)
        self._observing = Observing(keys)
        self._accounts = Accounts(keys)
        self._own = own
        self._view = FleetWatch()
        self._audited = 0

    def sweep(self) -> Op[list[str]]:
        """Give up and clear the boxes whose lease has ended; their ids."""
        seconds, micros = yield from ask_one(b"TIME")
        now = int(seconds) * 1000 + int(micros) // 1000
        leases = yield from self._fleet.workers()
        overdue = self._view.look(now, leases)
        overdue.pop(self._own, None)
        lost: dict[str, int] = {}
        if overdue:
            lost = yield from self._fleet.sweep(overdue, latest=now + LATE_MS)
        for worker, since in lost.items():
            with survive(f"clearing the lost box {worker}", but=(ConnectionError,)):
                yield from self.clear(worker, since=since)
        if now - self._audited >= AUDIT_MS:
            self._audited = now
            with survive("the audit of readers without a box", but=(ConnectionError,)):
                yield from self.audit(since=now)
        return list(lost)

    def clear(self, worker: str, *, since: int = 0) -> Op[None]:
        """Take back what a box's containers hold that was given up at `since`, then remove its record.

        A container may live on and claim what was just put back in line, even before the next one
        is reclaimed. So one box's end is charged to an input once: not again if it was put back
        after that moment.
        """
        assigned = yield from self._fleet.assigned([worker])
        reported = yield from self._fleet.containers([worker])
        # A record that cannot be read goes all the same: the audit finds what the box has held.
        held = {report.container: report.pool for report in reported.get(worker, ())}
        held |= assigned.get(worker, {})
        for container, pool in held.items():
            if is_pool_id(pool) and worker_of(container) == worker:
                yield from self._reclaim(pool, container, since)
        yield from self._fleet.retire(worker)

    def audit(self, *, since: int = 0) -> Op[list[str]]:
        """Reclaim the consumers of workers that no record is left of; their names.

        `since`: when this audit began; it charges an input once, as `clear` does.
        """
        pools = yield from self._observing.active()
        seen = yield from self._observing.observe(pools)
        # Workers last: whoever enrolled while we looked is then known, too.
        workers = yield from self._fleet.workers()
        orphans = [
            (observation.pool, consumer.name)
            for observation in seen
            if observation is not None
            for consumer in observation.consumers
            if worker_of(consumer.name) not in workers
        ]
        for pool, container in orphans:
            with survive(f"taking back what {container!r} holds", but=(ConnectionError,)):
                yield from self._reclaim(pool, container, since)
        return [container for _, container in orphans]

    def _reclaim(self, pool: str, container: str, since: int) -> Op[None]:
        # No record of a lost box is left that would say which of its inputs had started.
        told: list[TakenBack] = []
        back, lost = yield from self._pools.reclaim(
            pool, container, reason=LOST_BOX, charged=("*",), since=since, told=told
        )
        if back or lost:
            app, function = yield from self._accounts.place(pool)
            place = {"app": app, "function": function, "pool": pool}
            whose = {"container": container, "worker": worker_of(container)}
            tell_taken_back(told, LOST_BOX, place | whose)
            yield from self._accounts.add(app, function, {"redeliveries": back, "lost": lost})
