"""What becomes of inputs that have no outcome here: set aside, released, or given back at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from qmodal.store.entries import Claimed, charge
from qmodal.store.pools import BUDGET
from qmodal_workers.container.concurrent.group import Group
from qmodal_workers.container.concurrent.settler import Settler
from qmodal_workers.container.intake.handback import INTERRUPTIONS
from qmodal_workers.container.intake.stop import StopRequest
from qmodal_workers.container.run.admission import RefusedError, UndecodableError
from qmodal_workers.container.settle.rerouting import Rerouting
from qmodal_workers.container.settle.settlement import Settlement
from qmodal_workers.ipc.shared_record import CANCELLED, STOPPED


@dataclass(slots=True)
class Leftovers:
    """Collects what is given back; `reclaim` is for the end, as it takes back all that the container holds."""

    settlement: Settlement
    rerouting: Rerouting
    stop: StopRequest
    _released: list[Claimed] = field(default_factory=list)
    _charged: list[Claimed] = field(default_factory=list)
    _reason: str = ""
    _budget: int = BUDGET

    def refuse(self, claimed: Claimed, error: RefusedError) -> bool:
        """Set it aside; or leave it to a box that can decode it. Whether this container has to make room."""
        reason = str(error)
        if isinstance(error, UndecodableError) and self.rerouting.has_box_for(error.python):
            self._charge([claimed], reason, BUDGET)
            self.stop.reason, self.stop.is_unfit = f"it has to make room: {reason}", True
            return True
        pools, pool = self.settlement.client.pools, self.settlement.pool
        self.settlement.insist(partial(pools.bury, pool, claimed, reason=reason))
        return False

    def release(self, group: Group) -> None:
        """It is to run elsewhere, as if it had not started; not what was cancelled, as that is gone."""
        if group.slot.why != CANCELLED:
            self._released += [each.claimed for each in group.attempts]

    def preempted(self, group: Group) -> None:
        """Its user code was interrupted: by the worker, or by a SIGINT that is charged to it."""
        if group.slot.why == STOPPED and not self.settlement.options.is_once:
            self.release(group)
        else:
            reason = "user code raised KeyboardInterrupt"
            self._charge([each.claimed for each in group.attempts], reason, INTERRUPTIONS)

    def _charge(self, claimed: list[Claimed], reason: str, budget: int) -> None:
        self._charged += claimed
        self._reason = reason
        self._budget = 1 if self.settlement.options.is_once else min(self._budget, budget)

    def give_back(self, settler: Settler) -> None:
        """At the end, before the last outcomes are written."""
        released, self._released = self._released, []
        if released:
            settler.do(lambda: self.settlement.release(released))

    def reclaim(self) -> None:
        """When all else is written: what is still held was tried here, and another container has the next try."""
        if not self._charged:
            return
        settlement = self.settlement
        settlement.insist(
            partial(
                settlement.client.pools.reclaim,
                settlement.pool,
                settlement.container,
                reason=self._reason,
                charged=[charge(each) for each in self._charged],
                budget=self._budget,
            )
        )
