"""Hands back claimed entries that get no outcome here: sets them aside, releases or reclaims them."""

from __future__ import annotations

from dataclasses import dataclass

from qmodal.store.entries import Claimed
from qmodal.store.pools import BUDGET
from qmodal_workers.container.intake.intake import Intake
from qmodal_workers.container.intake.stop import StopRequest
from qmodal_workers.container.run.admission import RefusedError, UndecodableError
from qmodal_workers.container.run.interrupts import Interrupts
from qmodal_workers.container.run.invoker import Outdated, Preempted
from qmodal_workers.container.settle.rerouting import Rerouting
from qmodal_workers.container.settle.settlement import Settlement

# An input ends with this many interruptions that did not come from the worker; losses before one count,
# too.
INTERRUPTIONS = 2


@dataclass(slots=True, kw_only=True)
class Handback:
    """Hands entries back; whenever another container should have the next try, this one stops."""

    settlement: Settlement
    intake: Intake
    interrupts: Interrupts
    rerouting: Rerouting
    stop: StopRequest

    def refuse(self, claimed: Claimed, error: RefusedError) -> None:
        """Set the entry aside; or, if another box can decode it, give it back and stop to make room.

        Giving it back is charged as a lost delivery, so its inputs end even if no container starts there.
        """
        reason = str(error)
        if isinstance(error, UndecodableError) and self.rerouting.has_box_for(error.python):
            self.stop.make(f"it has to make room: {reason}", is_unfit=True)
            self._reclaim(claimed, reason)
        else:
            self.settlement.set_aside(claimed, reason)

    def release(self, claimed: Claimed, reason: str) -> None:
        """Release an unstarted entry, and stop for this reason: this container would refuse it again."""
        self.stop.make(reason)
        self.settlement.release([claimed])

    def leave_undone(self, claimed: Claimed, why: Preempted | Outdated) -> None:
        """Give back an entry whose user code was interrupted, or is not in this version, and stop."""
        if isinstance(why, Outdated):
            self.release(claimed, "an input needs a newer version of the app")
        else:
            self.stop.make("user code was interrupted")
            self._interrupted(claimed)

    def _interrupted(self, claimed: Claimed) -> None:
        """Give back an interrupted input to run elsewhere; one that never runs again is ended instead.

        A SIGINT that is not the worker's comes from user code or from somebody else. The first one may be
        anybody's; an input that is interrupted again elsewhere does it itself, and would do so for ever.
        """
        was_told = self.interrupts.was_told_to_stop
        if was_told and not self.settlement.options.is_once:
            self.settlement.release([claimed])
            return
        reason = "its container was stopped" if was_told else "user code raised KeyboardInterrupt"
        self._reclaim(claimed, reason, budget=INTERRUPTIONS)

    def _reclaim(self, claimed: Claimed, reason: str, *, budget: int = BUDGET) -> None:
        """Give an entry back, charged for its try here; this container must be about to stop."""
        self.intake.settle()
        budget = 1 if self.settlement.options.is_once else budget
        self.settlement.reclaim([claimed], reason=reason, budget=budget)
