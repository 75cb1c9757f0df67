"""Take back what boxes held that are gone: the audit that workers and autoscaler both run."""

from __future__ import annotations

from dataclasses import dataclass

from qmodal.defects import survive
from qmodal.exception import ConnectionError
from qmodal.store.exchange import Op, ask_one
from qmodal.store.fleet import LEASE_MS, Fleet
from qmodal.store.keys import Keys, is_pool_id
from qmodal.store.observing import Observing
from qmodal.store.pools import Pools
from qmodal.wire.ids import worker_of

GAP_MS = 2_000
# A sweep that the server gets to later than this after it was asked sees leases of its own pause.
LATE_MS = 1_000
AUDIT_MS = 10_000
LOST_BOX = "its worker was lost"


@dataclass(slots=True)
class View:
    """Since when somebody has looked at the server without a break; times in ms of its clock.

    A server that was stopped, or a sweeper that was cut off, finds every lease ended. Whoever
    believed that at once would take the work of the whole fleet away.
    """

    since: int = 0
    last: int = 0

    def look(self, now: int) -> bool:
        """Note a look; whether the view has been unbroken for a full lease."""
        if not self.last or now - self.last > GAP_MS or now < self.last:
            self.since = now
        self.last = now
        return now - self.since >= LEASE_MS

    def lose(self) -> None:
        """The connection was lost: start over."""
        self.last = 0


class Sweeper:
    """Run `sweep` once a second, with any driver; `own` is a worker that is never cleared here."""

    def __init__(self, keys: Keys, *, own: str = "") -> None:
        self._fleet = Fleet(keys)
        self._pools = Pools(keys)
        self._observing = Observing(keys)
        self._own = own
        self._view = View()
        self._audited = 0

    def sweep(self) -> Op[list[str]]:
        """Give up and clear the boxes whose lease has ended; their ids."""
        try:
            return (yield from self._sweep())
        except BaseException:
            self._view.lose()
            raise

    def _sweep(self) -> Op[list[str]]:
        seconds, micros = yield from ask_one(b"TIME")
        now = int(seconds) * 1000 + int(micros) // 1000
        if not self._view.look(now):
            return []
        lost = yield from self._fleet.sweep(latest=now + LATE_MS)
        lost = [worker for worker in lost if worker != self._own]
        for worker in lost:
            with survive(f"clearing the lost box {worker}", but=(ConnectionError,)):
                yield from self.clear(worker)
        if now - self._audited >= AUDIT_MS:
            self._audited = now
            with survive("the audit of readers without a box", but=(ConnectionError,)):
                yield from self.audit()
        return lost

    def clear(self, worker: str) -> Op[None]:
        """Take back what a given-up worker's containers hold, then remove its record."""
        assigned = yield from self._fleet.assigned([worker])
        reported = yield from self._fleet.containers([worker])
        # A record that cannot be read goes all the same: the audit finds what the box has held.
        held = {report.container: report.pool for report in reported.get(worker, ())}
        held |= assigned.get(worker, {})
        for container, pool in held.items():
            if is_pool_id(pool) and worker_of(container) == worker:
                yield from self._reclaim(pool, container)
        yield from self._fleet.retire(worker)

    def audit(self) -> Op[list[str]]:
        """Reclaim the consumers of workers that no record is left of; their names."""
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
                yield from self._reclaim(pool, container)
        return [container for _, container in orphans]

    def _reclaim(self, pool: str, container: str) -> Op[None]:
        # No record of a lost box is left that would say which of its inputs had started.
        yield from self._pools.reclaim(pool, container, reason=LOST_BOX, charged=("*",))
