"""The life of a container: claim an input, run it, settle it; until it is told to stop."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from qmodal.client import context
from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.spec.options import FunctionOptions
from qmodal.store.entries import Claimed, charge
from qmodal.store.pools import BUDGET
from qmodal.wire.signing import UnknownKeyError
from qmodal_workers.container.intake.claim_connection import ClaimConnection
from qmodal_workers.container.intake.intake import Intake
from qmodal_workers.container.intake.prefetch import LONG_SECONDS, PrefetchBuffer
from qmodal_workers.container.intake.status import StatusWriter
from qmodal_workers.container.lease_guard import LeaseGuard
from qmodal_workers.container.run.admission import Admission, RefusedError, UndecodableError
from qmodal_workers.container.run.code import CodeFinder
from qmodal_workers.container.run.invoker import Admitted, Invoker, Outdated, Preempted
from qmodal_workers.container.run.pack_runner import Pack, run
from qmodal_workers.container.run.service import Service
from qmodal_workers.container.settle.coalesce import Done
from qmodal_workers.container.settle.rerouting import Rerouting
from qmodal_workers.container.settle.settlement import Settlement
from qmodal_workers.ipc.shared_record import SharedRecord

# So many interruptions that did not come from the worker, or losses before one, end an input.
INTERRUPTIONS = 2


@dataclass(slots=True, kw_only=True)
class Serving:
    """One container at work. `reason` says at the end why it stopped by itself, if it did."""

    client: Client
    pool: str
    container: str
    options: FunctionOptions
    service: Service
    invoker: Invoker
    record: SharedRecord
    claims: ClaimConnection
    admission: Admission
    elsewhere: Rerouting
    guard: LeaseGuard | None = None  # of a pool whose started inputs never run again
    reason: str = ""
    is_unfit: bool = False  # it stops for an input that needs another Python or qmodal
    serial: int = 0
    conclusions: Settlement = field(init=False)
    finder: CodeFinder = field(init=False)
    intake: Intake = field(init=False)
    shelf: PrefetchBuffer = field(init=False)
    posting: StatusWriter = field(init=False)
    _is_stopping: bool = False
    _confirmed: tuple[str, int] = ("", 0)  # an entry that is ours, after so many cancelled ones

    def __post_init__(self) -> None:
        self.conclusions = Settlement(
            client=self.client,
            pool=self.pool,
            container=self.container,
            options=self.options,
            admission=self.admission,
        )
        self.finder = CodeFinder(
            client=self.client,
            pool=self.pool,
            container=self.container,
            service=self.service,
            invoker=self.invoker,
        )
        self.intake = Intake(
            claims=self.claims,
            record=self.record,
            conclusions=self.conclusions,
            pools=self.client.pools,
            options=self.options,
        )
        self.shelf = self.intake.shelf
        self.posting = self.intake.posting
        self.record.timeout = int(self.invoker.timeout * 1e9)
        self.invoker.interrupts.is_wanted = self._is_wanted
        # Its arguments may take more memory than there is.
        self.admission.before_large = self.posting.idle

    def run(self) -> None:
        """Serve until told to stop; everything claimed is settled or given back at the end.

        Also when something goes wrong that nobody has thought of: what has ended must not run again.
        """
        try:
            self._serve()
        finally:
            context.leave_input()
            self.intake.settle()
            self.shelf.release_all()

    def _serve(self) -> None:
        self.intake.refill()
        while True:
            claimed = self.shelf.start()
            if claimed is not None and self.shelf.is_stale:
                self.shelf.finish()
                self.intake.refill()
            elif claimed is not None:
                self._attempt(claimed)
            elif self._must_stop():
                break
            else:
                self.intake.claim()

    def _must_stop(self) -> bool:
        # Not before its first input: else one that is always interrupted earlier never ends.
        if self.invoker.interrupts.is_preempted and self.serial and not self._is_stopping:
            self._stop("preempted")
        return self._is_stopping or self.record.is_draining or self.claims.is_gone

    def _attempt(self, claimed: Claimed) -> None:
        self.intake.reach()
        self.posting.take()
        if self.guard is not None:
            self.guard.admit()
            self.shelf.release_all()  # if this container is lost from now on, that input only is
        admitted = self._admit(claimed)
        if admitted is None:
            return
        if claimed.lane == 2 and claimed.lost == BUDGET - 1:
            self.shelf.release_all()  # whatever kills us on its last delivery takes nobody along
        try:
            if admitted[0].size == 1:
                self._run(claimed, admitted)
            else:
                self._run_rows(claimed, admitted)
        except (Preempted, Outdated) as left:
            self._leave_undone(claimed, left)
            return
        except RefusedError as error:
            self._refuse(claimed, error)
            return
        if self.options.single_use_containers:
            self._stop("single use")

    def _admit(self, claimed: Claimed) -> Admitted | None:
        try:
            return self.admission.admit(claimed)
        except UnknownKeyError as error:
            self._stop(f"it has another signing key than its callers: {error}")
            self.conclusions.release([claimed])
        except RefusedError as error:
            self._refuse(claimed, error)
        return None

    def _run_rows(self, claimed: Claimed, admitted: Admitted) -> None:
        is_alone = self.guard is not None or self.options.single_use_containers
        if is_alone and claimed.size > 1:  # packed by a producer that knew other options
            self.conclusions.scatter(claimed)
            return
        kwargs, columns = self.admission.arguments(claimed, admitted)
        self._run_pack(Pack(claimed, admitted[0], kwargs, columns, self.shelf.lock))

    def _refuse(self, claimed: Claimed, error: RefusedError) -> None:
        """Set it aside; or leave it, and this container's place, to a box that can decode it.

        That is charged as a lost delivery is, so it ends even if no container ever starts there.
        """
        reason = str(error)
        if isinstance(error, UndecodableError) and self.elsewhere.has_box_for(error.python):
            self.is_unfit = True
            self._stop(f"it has to make room: {reason}")
            self._reclaim(claimed, reason)
        else:
            bury = partial(self.client.pools.bury, self.pool, claimed, reason=reason)
            self.conclusions.insist(bury)

    def _run(self, claimed: Claimed, admitted: Admitted) -> None:
        self.serial += 1
        self.posting.busy(self.serial)
        envelope = admitted[0]
        context.enter((envelope.head.call, envelope.first))
        result = self.invoker.invoke(self.finder.find, claimed, admitted, self.serial)
        seconds = self.shelf.finish()
        self.posting.completed += 1
        self.intake.pace.ran(seconds)
        if seconds > LONG_SECONDS or self.guard is not None:
            # It has ended: the worker must not time it out while the server keeps us waiting.
            self.posting.idle()
        self.conclusions.input(Done(claimed, envelope, result, self.shelf.ended, seconds))
        self._go_on(seconds)

    def _run_pack(self, work: Pack) -> None:
        function, before = self.finder.of_pack(work), self.serial
        self.posting.packed(before + 1, work.claimed.first)
        self.shelf.work_on(work)
        self.invoker.interrupts.why = 0
        try:
            self.serial = run(work, function, self.invoker, before, self.record)
        except Preempted:
            self.serial += work.claimed.size
            if not self.invoker.interrupts.was_told_to_stop:
                self.conclusions.leave_alone(work)  # it alone is charged for interrupting itself
                raise
            self._conclude(work)
            raise
        seconds = self.shelf.finish()
        self.intake.pace.ran(seconds, max(1, self.serial - before))
        self._conclude(work)
        self._go_on(seconds)

    def _conclude(self, work: Pack) -> None:
        # Before anything that may keep us waiting.
        self.posting.idle(work.index_of(max(work.begin, work.done - 1)))
        self.shelf.work_on(None)
        self.posting.completed += work.done
        self.conclusions.pack(work)

    def _go_on(self, seconds: float) -> None:
        """After an input or a pack that took so long."""
        if seconds > LONG_SECONDS:
            self._look_again()
        else:
            self.intake.settle_soon()

    def _leave_undone(self, claimed: Claimed, why: Preempted | Outdated) -> None:
        if isinstance(why, Outdated):
            self._stop("an input needs a newer version of the app")
            self.conclusions.release([claimed])
        else:
            self._stop("user code was interrupted")
            self._give_back(claimed)

    def _give_back(self, claimed: Claimed) -> None:
        """An interrupted input runs elsewhere; with a guard it has had its one run.

        Nobody but user code itself, or somebody beside the worker, sends SIGINT: once that may have
        been anybody's, but who is interrupted again elsewhere does it itself, and would do so for ever.
        """
        was_told = self.invoker.interrupts.was_told_to_stop
        if was_told and self.guard is None:
            self.conclusions.release([claimed])
            return
        reason = "its container was stopped" if was_told else "user code raised KeyboardInterrupt"
        self._reclaim(claimed, reason, budget=INTERRUPTIONS)

    def _reclaim(self, claimed: Claimed, reason: str, *, budget: int = BUDGET) -> None:
        """Give it back as one that had its try here; this container must be about to stop."""
        self.intake.settle()
        reclaim = partial(
            self.client.pools.reclaim,
            self.pool,
            self.container,
            reason=reason,
            charged=[charge(claimed)],
            budget=budget if self.guard is None else 1,
        )
        self.conclusions.insist(reclaim)

    def _is_wanted(self) -> bool:
        """Whether the input that is about to start is still ours; asked once after a hint."""
        claimed, hint = self.shelf.running, self.record.cancels
        if claimed is None or self._confirmed == (claimed.entry, hint):
            return True
        holds = self.client.pools.holds(self.pool, self.container, claimed.lane, claimed.entry)
        with suppress(Error):  # what nobody can tell us stays ours, until we settle it
            if not self.client.run(holds):
                return False
        self._confirmed = claimed.entry, hint
        return True

    def _look_again(self) -> None:
        """After a long input the worker may have released, from outside, what lay behind it."""
        if self.shelf.has_more:
            self.intake.settle()
            self.intake.refill()

    def _stop(self, reason: str) -> None:
        self.reason = reason
        self._is_stopping = True
        self.shelf.release_all()
