"""The main loop of a container: claim an entry, attempt it, and repeat until told to stop."""

from __future__ import annotations

from dataclasses import dataclass

from qmodal.client import context
from qmodal_workers.container.intake.claim_connection import ClaimConnection
from qmodal_workers.container.intake.handback import Handback
from qmodal_workers.container.intake.hold_check import HoldCheck
from qmodal_workers.container.intake.intake import Intake
from qmodal_workers.container.intake.stop import StopRequest
from qmodal_workers.container.lease_guard import LeaseGuard
from qmodal_workers.container.pipeline import Pipeline
from qmodal_workers.container.process.output_marks import OutputMarks
from qmodal_workers.container.run.code import CodeFinder
from qmodal_workers.container.run.interrupts import Interrupts
from qmodal_workers.container.run.invoker import Invoker
from qmodal_workers.container.run.service import Service
from qmodal_workers.container.settle.rerouting import Rerouting
from qmodal_workers.container.settle.settlement import Settlement
from qmodal_workers.ipc.shared_record import SharedRecord


@dataclass(slots=True, kw_only=True)
class ServeSession:
    """The parts of a container and its main loop; `stop` says why it ends by itself, if it does."""

    record: SharedRecord
    claims: ClaimConnection
    intake: Intake
    pipeline: Pipeline
    stop: StopRequest

    @classmethod
    def create(
        cls,
        *,
        record: SharedRecord,
        claims: ClaimConnection,
        settlement: Settlement,
        service: Service,
        invoker: Invoker,
        interrupts: Interrupts,
        rerouting: Rerouting,
        marks: OutputMarks,
    ) -> ServeSession:
        """The parts of a container, connected with each other; nothing is claimed yet."""
        client, pool, container = settlement.client, settlement.pool, settlement.container
        slot = interrupts.slot
        intake = Intake(
            slot=slot,
            claims=claims,
            record=record,
            settlement=settlement,
            marks=marks,
            pools=client.pools,
            options=settlement.options,
        )
        stop = StopRequest(intake.buffer)
        pipeline = Pipeline(
            slot=slot,
            record=record,
            intake=intake,
            invoker=invoker,
            interrupts=interrupts,
            finder=CodeFinder(
                client=client, pool=pool, container=container, service=service, invoker=invoker
            ),
            settlement=settlement,
            handback=Handback(
                settlement=settlement,
                intake=intake,
                interrupts=interrupts,
                rerouting=rerouting,
                stop=stop,
            ),
            marks=marks,
            guard=LeaseGuard(record) if settlement.options.is_once else None,
            is_single_use=settlement.options.single_use_containers,
        )
        record.timeout = int(invoker.timeout * 1e9)
        interrupts.is_wanted = HoldCheck(client, pool, container, record, slot).is_wanted
        # The arguments may take more memory than there is.
        settlement.admission.before_large = intake.status.idle
        return cls(record=record, claims=claims, intake=intake, pipeline=pipeline, stop=stop)

    @property
    def guard(self) -> LeaseGuard | None:
        """What ends the container with its lease, if its inputs never run again."""
        return self.pipeline.guard

    @property
    def completed(self) -> int:
        """How many inputs have ended here."""
        return self.intake.status.completed

    def run(self) -> None:
        """Serve until told to stop; everything claimed is settled or given back at the end.

        Also after an unforeseen error, because an input that has ended must not run again.
        """
        try:
            self._serve()
        finally:
            context.leave_input()
            self.pipeline.marks.end()
            self.intake.settle()
            self.intake.buffer.release_all()

    def _serve(self) -> None:
        intake, buffer, slot = self.intake, self.intake.buffer, self.pipeline.slot
        intake.refill()
        while True:
            claimed = buffer.start()
            if claimed is not None and buffer.is_stale:
                slot.claimed = None
                intake.refill()
            elif claimed is not None and self.record.is_replaced:
                # A newer version may be about to answer.
                slot.claimed = None
                self.pipeline.settlement.release([claimed])
                buffer.release_all()
            elif claimed is not None:
                self.pipeline.attempt(claimed)
            elif self._must_stop():
                break
            else:
                intake.claim()

    def _must_stop(self) -> bool:
        # Not before its first input: else one that is always interrupted earlier never ends.
        interrupts = self.pipeline.interrupts
        if interrupts.is_preempted and interrupts.slot.serial and not self.stop.is_made:
            self.stop.make("preempted")
        if self.intake.gives_way() and not self.stop.is_made:
            self.stop.give_way()
        return self.stop.is_made or self.record.is_draining or self.claims.is_gone
