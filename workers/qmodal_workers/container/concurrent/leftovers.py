"""What becomes of inputs that have no outcome here: set aside, or given back at the end and charged."""

from __future__ import annotations

from dataclasses import dataclass, field

from qmodal.store.entries import Claimed
from qmodal.store.pools import BUDGET
from qmodal_workers.container.concurrent.group import Group
from qmodal_workers.container.intake.handback import INTERRUPTIONS
from qmodal_workers.container.intake.stop import StopRequest
from qmodal_workers.container.run.admission import RefusedError, UndecodableError
from qmodal_workers.container.settle.rerouting import Rerouting
from qmodal_workers.container.settle.settlement import Settlement
from qmodal_workers.ipc.shared_record import STOPPED


@dataclass(slots=True)
class Leftovers:
    """Collects what is charged; `reclaim` is for the end, as it takes back all that the container holds."""

    settlement: Settlement
    rerouting: Rerouting
    stop: StopRequest
    _charged: list[Claimed] = field(default_factory=list)
    _reason: str = ""
    _budget: int = BUDGET

    def refuse(self, claimed: Claimed, error: RefusedError) -> bool:
        """Set it aside; or leave it to a box that can decode it. Whether this container has to make room."""
        reason = str(error)
        if isinstance(error, UndecodableError) and self.rerouting.has_box_for(error.python):
            self._charge([claimed], reason, BUDGET)
            self.stop.make(f"it has to make room: {reason}", is_unfit=True)
            return True
        self.settlement.set_aside(claimed, reason)
        return False

    def charge(self, group: Group, *, is_alone: bool) -> bool:
        """Whether a group without an outcome is charged for it; else it is to run elsewhere as if new.

        Nobody but user code itself, or somebody beside the worker, sends SIGINT; of several inputs
        nobody knows which one did. What may run only once has had its run.
        """
        was_told = group.slot.why == STOPPED
        if was_told and not self.settlement.options.is_once:
            return False
        reason = "its container was stopped" if was_told else "user code raised KeyboardInterrupt"
        claimed = [each.claimed for each in group.attempts]
        self._charge(claimed, reason, INTERRUPTIONS if is_alone else BUDGET)
        return True

    def _charge(self, claimed: list[Claimed], reason: str, budget: int) -> None:
        self._charged += claimed
        self._reason = reason
        self._budget = 1 if self.settlement.options.is_once else min(self._budget, budget)

    def reclaim(self) -> None:
        """When all else is written: what is still held was tried here, and another container has the next try."""
        if self._charged:
            self.settlement.reclaim(self._charged, reason=self._reason, budget=self._budget)
