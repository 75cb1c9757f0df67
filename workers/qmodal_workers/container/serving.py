"""The life of a container: claim an input, run it, settle it; until it is told to stop."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from functools import partial

from qmodal import context
from qmodal.client import Client
from qmodal.options import FunctionOptions
from qmodal.store.entries import Claimed, Settled, charge
from qmodal.store.pools import BUDGET
from qmodal.wire.outcome import Outcome
from qmodal.wire.signing import UnknownKeyError
from qmodal_workers.container.admission import Admission, RefusedError, UndecodableError
from qmodal_workers.container.claims import Claims
from qmodal_workers.container.conclude import Conclusions
from qmodal_workers.container.elsewhere import Elsewhere
from qmodal_workers.container.finder import Finder
from qmodal_workers.container.guard import Guard
from qmodal_workers.container.invoke import Admitted, Invoker, Outdated, Preempted, flush
from qmodal_workers.container.pace import Pace
from qmodal_workers.container.pack import Pack, run
from qmodal_workers.container.posting import Posting
from qmodal_workers.container.service import Service
from qmodal_workers.container.shelf import LONG_SECONDS, Shelf
from qmodal_workers.record import Record

FLUSH_SECONDS = 0.005


@dataclass(slots=True, kw_only=True)
class Serving:
    """One container at work. `reason` says at the end why it stopped by itself, if it did."""

    client: Client
    pool: str
    container: str
    options: FunctionOptions
    service: Service
    invoker: Invoker
    record: Record
    claims: Claims
    admission: Admission
    elsewhere: Elsewhere
    guard: Guard | None = None  # of a pool whose started inputs never run again
    reason: str = ""
    is_unfit: bool = False  # it stops for an input that needs another Python or qmodal
    serial: int = 0
    pace: Pace = field(default_factory=Pace)
    shelf: Shelf = field(init=False)
    conclusions: Conclusions = field(init=False)
    finder: Finder = field(init=False)
    key: str = field(init=False)
    posting: Posting = field(init=False)
    settling: threading.Lock = field(default_factory=threading.Lock)
    _flushed: float = 0.0
    _is_stopping: bool = False

    def __post_init__(self) -> None:
        self.conclusions = Conclusions(
            client=self.client,
            pool=self.pool,
            container=self.container,
            options=self.options,
            admission=self.admission,
        )
        self.finder = Finder(
            client=self.client,
            pool=self.pool,
            container=self.container,
            service=self.service,
            invoker=self.invoker,
        )
        self.shelf = Shelf(
            self.conclusions.release,
            self.conclusions.split_off,
            self._settle_behind,
            clock=time.monotonic_ns,
            tick=self.record.tick,
        )
        self.record.timeout = int(self.invoker.timeout * 1e9)
        self.key = self.client.keys.pool(self.pool)
        self.posting = Posting(self.record, self.shelf, is_once=self.guard is not None)

    def run(self) -> None:
        """Serve until told to stop; everything claimed is settled or given back at the end."""
        self._refill()
        while True:
            claimed = self.shelf.start()
            if claimed is not None:
                self._attempt(claimed)
            elif self._must_stop():
                break
            else:
                self._claim()
        context.leave_input()
        self._settle()
        self.shelf.release_all()

    def _must_stop(self) -> bool:
        if self.invoker.interrupts.is_preempted and not self._is_stopping:
            self._stop("preempted")
        return self._is_stopping or self.record.is_draining or self.claims.is_gone

    def _claim(self) -> None:
        context.leave_input()
        self.posting.idle()
        with self.settling:
            ended = self._take_ended()
        claimed = self.claims.claim(
            ended, count=self.pace.count(self.claims.inflight), also=self.pace.news(self.key)
        )
        if claimed and not self.claims.is_doubtful:
            self.shelf.put(claimed)
            self.posting.claimed(claimed, self.claims.connection)
        else:
            # The connection was lost, something was not settled, or nothing came for seconds: what
            # this container holds without knowing, nobody else would ever run.
            self._refill()

    def _refill(self) -> None:
        with self.settling:
            self.shelf.refill(self.claims.held)
        self.posting.claimed(self.shelf.waiting(), self.claims.connection)

    def _attempt(self, claimed: Claimed) -> None:
        self.posting.take()
        if self.guard is not None:
            self.guard.check()
            self.shelf.release_all()  # if this container is lost from now on, that input only is
        admitted = self._admit(claimed)
        if admitted is None:
            return
        if claimed.lost == BUDGET - 1:
            self.shelf.release_all()  # whatever kills us on its last delivery takes nobody along
        try:
            if admitted[0].count == 1:
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
        kwargs, rows = self.admission.rows(claimed, admitted)
        self._run_pack(Pack(claimed, admitted[0], kwargs, rows, self.shelf.lock))

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
        context.enter((envelope.call, envelope.index))
        began = time.time_ns() // 1_000_000
        result = self.invoker.invoke(self.finder.find, claimed, admitted, self.serial)
        seconds = self.shelf.finish()
        self.posting.completed += 1
        self.pace.ran(seconds)
        if seconds > LONG_SECONDS:
            # It has ended: the worker must not time it out while the server keeps us waiting.
            self.posting.idle()
        outcome = Outcome(*result, self.container, began, int(seconds * 1e6))
        self.conclusions.input(claimed, envelope, outcome)
        self._go_on(seconds)

    def _run_pack(self, work: Pack) -> None:
        function, before = self.finder.of_pack(work), self.serial
        self.posting.busy(before + 1, work.claimed.first)
        self.shelf.work_on(work)
        self.invoker.interrupts.why = 0
        try:
            self.serial = run(work, function, self.invoker, before, self.record)
        except Preempted:
            self.serial += len(work.rows)
            if not self.invoker.interrupts.was_told_to_stop:
                self.conclusions.leave_alone(work)  # it alone is charged for interrupting itself
                raise
            self._conclude(work)
            raise
        seconds = self.shelf.finish()
        self.pace.ran(seconds, max(1, self.serial - before))
        self._conclude(work)
        self._go_on(seconds)

    def _conclude(self, work: Pack) -> None:
        self.shelf.work_on(None)
        self.posting.completed += work.done
        self.posting.idle()
        self.conclusions.pack(work)

    def _go_on(self, seconds: float) -> None:
        """After an input or a pack that took so long."""
        if seconds > LONG_SECONDS:
            self._look_again()
        elif len(self.shelf) and time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._settle()

    def _leave_undone(self, claimed: Claimed, why: Preempted | Outdated) -> None:
        if isinstance(why, Outdated):
            self._stop("an input needs a newer version of the app")
            self.conclusions.release([claimed])
        else:
            self._stop("user code was interrupted")
            self._give_back(claimed)

    def _give_back(self, claimed: Claimed) -> None:
        """An interrupted input runs elsewhere; one that interrupts itself does so a few times only.

        With a guard it has had its one run.
        """
        was_told = self.invoker.interrupts.was_told_to_stop
        if was_told and self.guard is None:
            self.conclusions.release([claimed])
            return
        reason = "its container was stopped" if was_told else "user code raised KeyboardInterrupt"
        self._reclaim(claimed, reason)

    def _reclaim(self, claimed: Claimed, reason: str) -> None:
        """Give it back as one that had its try here; this container must be about to stop."""
        self._settle()
        reclaim = partial(
            self.client.pools.reclaim,
            self.pool,
            self.container,
            reason=reason,
            charged=[charge(claimed)],
            budget=BUDGET if self.guard is None else 1,
        )
        self.conclusions.insist(reclaim)

    def _look_again(self) -> None:
        """After a long input the worker may have released, from outside, what lay behind it."""
        if len(self.shelf):
            self._settle()
            self._refill()

    def _settle(self) -> None:
        with self.settling:
            self.claims.settle(self._take_ended())

    def _settle_behind(self, is_long: bool) -> bool:
        """What ended before the input that runs now does not wait for a long one.

        By the release thread. While it is at it, nobody reads what is held: that would start again.
        """
        if is_long and self.guard is None:
            with self.settling:
                settled = self.conclusions.take()
                try:
                    self.claims.settle(settled)
                except BaseException:
                    self.conclusions.put_back(settled)
                    raise
        return bool(self.conclusions.settled)

    def _take_ended(self) -> list[Settled]:
        flush()
        self._flushed = time.monotonic()
        return self.conclusions.take()

    def _stop(self, reason: str) -> None:
        self.reason = reason
        self._is_stopping = True
        self.shelf.release_all()
