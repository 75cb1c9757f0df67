"""Takes a claimed entry through a container: admit it, run it, conclude it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from qmodal.client import context
from qmodal.store.entries import Claimed
from qmodal.store.pools import BUDGET
from qmodal.telemetry.tracing import is_on
from qmodal.wire.outcome import Result
from qmodal.wire.signing import UnknownKeyError
from qmodal_workers.container.intake.handback import Handback
from qmodal_workers.container.intake.intake import Intake
from qmodal_workers.container.intake.prefetch import LONG_SECONDS
from qmodal_workers.container.lease_guard import LeaseGuard
from qmodal_workers.container.process.output_marks import OutputMarks
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
    """Takes claimed entries through their attempts, one after another; `slot` holds the one that runs.

    `guard` is set if started inputs never run again; then each is claimed and attempted alone.
    """

    slot: Slot
    record: SharedRecord
    intake: Intake
    invoker: Invoker
    interrupts: Interrupts
    finder: CodeFinder
    settlement: Settlement
    handback: Handback
    marks: OutputMarks
    guard: LeaseGuard | None
    is_single_use: bool

    def attempt(self, claimed: Claimed) -> None:
        """Admit, run and conclude the entry, or hand it back."""
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
        """Check the entry; None if it was handed back."""
        intake = self.intake
        intake.reach()
        intake.status.take()
        if self.guard is not None:
            self.guard.admit()
            intake.buffer.release_all()  # so that a death of this container costs this input only
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
            # On its last delivery an input may kill this container, too, but no others along with it.
            intake.buffer.release_all()
        return attempt

    def _run(self, attempt: Attempt) -> Result:
        slot, envelope = self.slot, attempt.envelope
        slot.serial += 1
        self.intake.status.busy()
        call, index = envelope.head.call, envelope.first
        context.enter((call, index))
        self.marks.begin(call, index)
        if not is_on():
            return self.invoker.invoke(attempt, self.finder.find)
        with self.settlement.spans.begin((attempt,)) as span:
            result = self.invoker.invoke(attempt, self.finder.find)
            span.took((result,))
        return result

    def _conclude(self, attempt: Attempt, result: Result) -> None:
        slot, intake = self.slot, self.intake
        seconds = slot.finish(time.monotonic_ns())
        intake.claim_sizer.ran(seconds)
        intake.status.completed += 1
        is_long = seconds > LONG_SECONDS
        if is_long or self.guard is not None:
            # Published first: the worker must not time out an input that has ended while the server is
            # slow.
            intake.status.idle()
        claimed, envelope, _ = attempt
        done = _new(Done, (claimed, envelope, result, slot.ended, seconds, None, False))
        self.settlement.input(done)
        if is_long:
            self.marks.end()  # else while the server works, or when the next input begins
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
        with self.settlement.spans.begin((attempt,), claimed.size) as span:
            self._run_pack(pack)
            span.took(pack.failures)
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
        # To look at the pipes between two inputs takes longer than a short one.
        self.marks.begin(pack.envelope.call, -1)
        try:
            run(pack, function, self.invoker, self.interrupts, self.record)
        except Preempted:
            if self.interrupts.was_told_to_stop:
                self._conclude_pack(pack)
            else:
                # Only the input that interrupted itself is to be charged for it.
                self.settlement.splitter.isolate(pack)
            raise
        finally:
            self.marks.end()

    def _conclude_pack(self, pack: Pack) -> None:
        # First of all: an input that has ended must not be timed out while the server is slow.
        slot = self.slot
        slot.part = pack.index_of(max(pack.begin, pack.done - 1))
        self.intake.status.idle()
        self.settlement.splitter.detach(slot)
        self.intake.status.completed += pack.done
        self.settlement.pack(pack)
