"""The way of a claimed entry through a container: admit it, run it, conclude it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from qmodal.client import context
from qmodal.store.entries import Claimed
from qmodal.store.pools import BUDGET
from qmodal.wire.outcome import Result
from qmodal.wire.signing import UnknownKeyError
from qmodal_workers.container.intake.handback import Handback
from qmodal_workers.container.intake.intake import Intake
from qmodal_workers.container.intake.prefetch import LONG_SECONDS
from qmodal_workers.container.lease_guard import LeaseGuard
from qmodal_workers.container.run.admission import RefusedError
from qmodal_workers.container.run.attempt import Attempt
from qmodal_workers.container.run.code import CodeFinder
from qmodal_workers.container.run.interrupts import Interrupts
from qmodal_workers.container.run.invoker import Invoker, Outdated, Preempted
from qmodal_workers.container.run.pack import Pack
from qmodal_workers.container.run.pack_runner import run
from qmodal_workers.container.run.slot import Slot
from qmodal_workers.container.settle.coalesce import Done
from qmodal_workers.container.settle.settlement import Settlement
from qmodal_workers.ipc.shared_record import SharedRecord

# Without the generated constructor, which takes three times as long.
_new = tuple.__new__


@dataclass(slots=True, kw_only=True)
class Pipeline:
    """Takes the entry in `slot` through its attempt.

    `guard` is there if started inputs never run again; they are then attempted one by one.
    """

    slot: Slot
    record: SharedRecord
    intake: Intake
    invoker: Invoker
    interrupts: Interrupts
    finder: CodeFinder
    settlement: Settlement
    handback: Handback
    guard: LeaseGuard | None
    is_single_use: bool

    def attempt(self, claimed: Claimed) -> None:
        """Admit, run and conclude it, or hand it back."""
        attempt = self._admit(claimed)
        if attempt is None:
            return
        try:
            if attempt.envelope.size == 1:
                self._conclude(attempt, self._run(attempt))
            else:
                self._attempt_pack(attempt)
        except (Preempted, Outdated) as why:
            self.handback.leave_undone(claimed, why)
        except RefusedError as error:
            self.handback.refuse(claimed, error)
        else:
            if self.is_single_use:
                self.handback.stop.make("single use")

    def _admit(self, claimed: Claimed) -> Attempt | None:
        """Check it; None if it was handed back."""
        intake = self.intake
        intake.reach()
        intake.status.take()
        if self.guard is not None:
            self.guard.admit()
            intake.buffer.release_all()  # if this container is lost from now on, that input only is
        try:
            attempt = self.settlement.admission.admit(claimed)
        except UnknownKeyError as error:
            reason = f"it has another signing key than its callers: {error}"
            self.handback.release(claimed, reason)
            return None
        except RefusedError as error:
            self.handback.refuse(claimed, error)
            return None
        if claimed.lane == 2 and claimed.lost == BUDGET - 1:
            intake.buffer.release_all()  # whatever kills us on its last delivery takes nobody along
        return attempt

    def _run(self, attempt: Attempt) -> Result:
        slot, envelope = self.slot, attempt.envelope
        slot.serial += 1
        self.intake.status.busy()
        context.enter((envelope.head.call, envelope.first))
        return self.invoker.invoke(attempt, self.finder.find)

    def _conclude(self, attempt: Attempt, result: Result) -> None:
        slot, intake = self.slot, self.intake
        seconds = slot.finish(time.monotonic_ns())
        intake.claim_sizer.ran(seconds)
        intake.status.completed += 1
        is_long = seconds > LONG_SECONDS
        if is_long or self.guard is not None:
            # It has ended: the worker must not time it out while the server keeps us waiting.
            intake.status.idle()
        claimed, envelope, _ = attempt
        done = _new(Done, (claimed, envelope, result, slot.ended, seconds, None))
        self.settlement.input(done)
        if is_long:
            intake.look_again()
        else:
            intake.settle_soon()

    def _attempt_pack(self, attempt: Attempt) -> None:
        claimed = attempt.claimed
        is_alone = self.guard is not None or self.is_single_use
        if is_alone and claimed.size > 1:  # packed by a producer that knew other options
            self.settlement.scatter(claimed)
            return
        kwargs, columns = self.settlement.admission.arguments(attempt)
        pack = Pack(claimed, attempt.envelope, kwargs, columns)
        before = self.slot.serial
        self._run_pack(pack)
        seconds = self.slot.finish(time.monotonic_ns())
        self.intake.claim_sizer.ran(seconds, max(1, self.slot.serial - before))
        self._conclude_pack(pack)
        if seconds > LONG_SECONDS:
            self.intake.look_again()
        else:
            self.intake.settle_soon()

    def _run_pack(self, pack: Pack) -> None:
        slot, function = self.slot, self.finder.of_pack(pack)
        self.intake.status.packed(pack.claimed.first)
        self.intake.watch(pack)
        slot.why = 0
        try:
            run(pack, function, self.invoker, self.interrupts, self.record)
        except Preempted:
            if self.interrupts.was_told_to_stop:
                self._conclude_pack(pack)
            else:
                self.settlement.splitter.leave_alone(
                    pack
                )  # it alone is charged for interrupting itself
            raise

    def _conclude_pack(self, pack: Pack) -> None:
        # Before anything that may keep us waiting.
        slot = self.slot
        slot.part = pack.index_of(max(pack.begin, pack.done - 1))
        self.intake.status.idle()
        self.settlement.splitter.leave(slot)
        self.intake.status.completed += pack.done
        self.settlement.pack(pack)
