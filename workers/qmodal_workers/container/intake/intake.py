"""Claims inputs for a container and settles their outcomes, in batches; prefetches short inputs."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

from qmodal.client import context
from qmodal.exception import Error
from qmodal.spec.options import FunctionOptions
from qmodal.spec.pack_size import is_packable
from qmodal.store.entries import Claimed, Settled
from qmodal.store.pools import Pools
from qmodal.transport.operation import Command
from qmodal_workers.container.intake.claim_connection import (
    BLOCK_MS,
    FIRST_BLOCK_MS,
    ClaimConnection,
)
from qmodal_workers.container.intake.claim_size import ClaimSizer
from qmodal_workers.container.intake.prefetch import LONG_NS, PrefetchBuffer
from qmodal_workers.container.intake.release_thread import LOOK_SECONDS, ReleaseThread
from qmodal_workers.container.intake.status import StatusWriter
from qmodal_workers.container.process.output_marks import OutputMarks
from qmodal_workers.container.process.own_output import flush
from qmodal_workers.container.run.pack import Pack
from qmodal_workers.container.run.slot import Slot
from qmodal_workers.container.settle.settlement import Settlement
from qmodal_workers.ipc.shared_record import SharedRecord

# A finished outcome waits this long to share the next claim's write before it is flushed alone;
# LATER_NS while a prefetch is under way.
FLUSH_NS, LATER_NS = 5_000_000, 25_000_000
# Entries behind an input that has run for this long are released. Several are claimed at once only if they
# take much less than that together.
RELEASE_NS = 12_000_000
# Finished outcomes are flushed by the release thread when the input behind them has run for this long.
SETTLE_NS = 5_000_000
# The worker renews its lease every two seconds, and leaves five of it at least. With less than this
# left the worker stands still, and so may we have: what is claimed may be somebody else's by now, or
# cancelled.
SURE_NS = 4_000_000_000
# Without a lease: until the next look whether there is one again.
STAND_BY_SECONDS = 0.05


def block_ms(most: int, lease_left: int) -> int:
    """Milliseconds that a claim may wait: at most `most`, and not beyond the lease (in nanoseconds)."""
    left = lease_left // 1_000_000
    # In steps of 100 ms, so that few different commands are packed.
    return most if left >= most else max(1, left // 100 * 100)


@dataclass(slots=True, kw_only=True)
class Intake:
    """Fills the buffer with claimed entries, and settles finished outcomes with the same writes.

    While the last inputs of a batch run, the next batch is on its way already (`reach`): the server
    and this container work at the same time.

    Two locks: `_claim_lock`, from taking finished outcomes until they are settled, so that nobody reads
    their entries as held; then the buffer's. They are only ever taken in that order, as `_claiming`
    asserts.
    """

    slot: Slot
    claims: ClaimConnection
    record: SharedRecord
    settlement: Settlement
    marks: OutputMarks
    options: FunctionOptions
    pools: Pools
    claim_sizer: ClaimSizer = field(init=False)
    buffer: PrefetchBuffer = field(init=False)
    status: StatusWriter = field(init=False)
    release_thread: ReleaseThread = field(init=False)
    _may_prefetch: bool = field(init=False)
    _claim_lock: threading.Lock = field(default_factory=lambda: threading.Lock())
    _flushed: int = 0  # when outcomes were taken last, in monotonic nanoseconds
    _is_dry: bool = True  # nothing came of the last claim
    _low: int = 0  # `reach` claims when at most this many entries are in the buffer
    _noted: int = 0  # the record's `cancels` when the last claim was sent
    _has_asked: bool = False  # in vain, since the last entry
    _began: int = field(default_factory=time.monotonic_ns)

    def __post_init__(self) -> None:
        is_once = self.options.is_once
        self.claim_sizer = ClaimSizer(most=1) if is_once else ClaimSizer()
        self.buffer = PrefetchBuffer(
            self.slot,
            fetch=self._fetch,
            release=self.settlement.release,
            clock=time.monotonic_ns,
        )
        self.release_thread = ReleaseThread(
            self._look,
            self._pause,
            clock=lambda: self.buffer.clock(),
            tick=self.record.tick,
        )
        self.status = StatusWriter(self.record, self.slot, self.buffer)
        # A container that may start one input only, or one at a time, has no use for others.
        self._may_prefetch = is_packable(self.options)

    def claim(self) -> None:
        """Fill the empty buffer with the prefetch, or else with a claim, which may wait."""
        context.leave_input()
        # First of all: an input that has ended must not be timed out while this waits.
        self.status.idle()
        flush()
        left = self.record.lease_left
        if left <= 0:
            self._stand_by()
            return
        self._ask_planned()
        claimed = self.buffer.take()
        may_be_empty = True
        if claimed is None:
            may_be_empty = self._ask(left)
            self.marks.end()  # while the server works, so that nobody waits for it
            claimed = self._fetch()
        self._is_dry = self._has_asked = not claimed
        is_sure = not self.claims.is_doubtful and self.record.lease_left > SURE_NS
        if is_sure and (claimed or may_be_empty):
            self._low = self.claim_sizer.low(len(claimed))
            self.record.heard = self._noted
            self.buffer.put(claimed)
            self._watch_queue()
            self.status.claimed(claimed, self.claims.client_id)
        else:
            # The connection was lost, an outcome was refused, or nothing came for seconds: an entry that
            # is held here without our knowing would never be run. Or the worker stands still: what came
            # may have been taken back before we read it.
            self.refill()

    def _stand_by(self) -> None:
        """Claim nothing for a moment, because the worker's lease may have ended.

        Others then put back in line what this box holds, one container after another. Claimed here
        again, it would be lost again.
        """
        self.settle()
        self.marks.end()
        self.buffer.release_all()
        time.sleep(STAND_BY_SECONDS)

    def _ask(self, lease_left: int) -> bool:
        """Send outcomes and a claim; returns whether the server answers at once, even with nothing.

        An idle container claims one entry at a time, so that a burst spreads over all idle ones; see
        `ClaimSizer.waiting` for one that is alone.
        """
        with self._claiming():
            ended = self._take_ended()
        inflight = self.claims.inflight - sum([each.count for each in ended])
        count, block = 1 if self._is_dry else self.claim_sizer.count(inflight), None
        idle_limit = self.record.idle_limit
        if count == 1:
            count = self.claim_sizer.waiting()
            block = block_ms(FIRST_BLOCK_MS if ended else BLOCK_MS, lease_left)
            if idle_limit is not None:
                block = self._until_idle(block, idle_limit)
        self._noted = self.record.cancels
        self.claims.ask(ended, count=count, block=block, extra=self._report())
        return block is None or idle_limit is not None

    def gives_way(self) -> bool:
        """Whether others wait for the container's place, and it was idle for long enough, up to a claim just now."""
        idle_limit = self.record.idle_limit
        return idle_limit is not None and self._has_asked and self._idle() >= idle_limit

    def _idle(self) -> int:
        """Nanoseconds since an input has ended here; since the start, before the first one."""
        return time.monotonic_ns() - (self.slot.ended or self._began)

    def _until_idle(self, block: int, idle_limit: int) -> int:
        """The milliseconds that a claim waits if the container gives way after so many idle nanoseconds."""
        # In steps of 10 ms, so that few different commands are packed.
        left = (idle_limit - self._idle()) // 10_000_000 * 10
        return max(1, min(block, left))

    def refill(self) -> None:
        """Replace the buffer's content by the entries that the server says are held."""
        flush()
        with self._claiming():
            # The entry of a finished outcome is held until that is settled, and would run again.
            self.claims.settle(self._take_ended())
            noted = self.record.cancels
            self.buffer.refill(self.claims.held)
            self.record.heard = noted
        self._watch_queue()
        if self.record.lease_left <= 0:
            self.buffer.release_all()
        self.status.claimed(self.buffer.waiting(), self.claims.client_id)

    def reach(self) -> None:
        """Claim the next entries while the last ones run, if they are short."""
        buffer = self.buffer
        if len(buffer.queue) > self._low or buffer.stage != "empty" or not self._may_prefetch:
            return
        waiting, sizer = self.settlement.waiting, self.claim_sizer
        count = sizer.ahead(self.claims.inflight - waiting)
        if not count and waiting and not buffer.queue:
            count = sizer.beside()
        if count and not self.record.is_draining:
            flush()
            leaves_time = sizer.leaves_time
            buffer.plan(count, is_background=leaves_time)
            if leaves_time:
                self.release_thread.ring()
            else:
                self._ask_planned()
        elif waiting and not buffer.queue:
            self.settle()  # the next input may run long and keep all other threads from writing

    def watch(self, pack: Pack) -> None:
        """Have the release thread split this pack, which runs now, if one of its inputs takes long."""
        self.slot.pack = pack
        self.release_thread.arm()

    def _watch_queue(self) -> None:
        if len(self.buffer.queue) > 1:
            self.release_thread.arm()

    def _pause(self, now: int) -> float:
        """Seconds until the release thread looks again: in time to release what is behind a long input."""
        left = (self.slot.started + RELEASE_NS - now) / 1e9
        return min(LOOK_SECONDS, left + 0.0002) if left > 0 else LOOK_SECONDS

    def _look(self, now: int) -> bool:
        """By the release thread: do what is due while an input runs; returns whether to look again."""
        slot, buffer, pack = self.slot, self.buffer, self.slot.pack
        since = pack.since if pack is not None and pack.since else slot.started
        is_running = slot.claimed is not None
        ran = now - since if is_running else 0
        is_pending = True
        # What the server refuses, or cannot be reached for, is tried again at the next look.
        with suppress(Error):
            if is_running and ran < RELEASE_NS and buffer.is_for_background:
                self._prepare()
            is_pending = self._settle_behind(is_long=ran > SETTLE_NS)
            if ran > RELEASE_NS:
                buffer.release_all()
            if ran > LONG_NS and pack is not None:
                self.settlement.splitter.split_running(slot, pack)
        return buffer.has_more or slot.pack is not None or is_pending

    def _prepare(self) -> None:
        """By the release thread, while user code runs: settle, claim, and check the entry that comes."""
        self._ask_planned()
        if self.claims.is_answered(LOOK_SECONDS):
            for claimed in self.buffer.read()[:1]:
                self.settlement.admission.foresee(claimed)

    def _ask_planned(self) -> None:
        """Send the claim that is planned, if it still is, and finished outcomes with the same write."""
        if self.buffer.stage != "planned":
            return
        with self._claiming():
            if self.buffer.stage == "planned":
                ended = self._take_ended()
                report = self._report()

                def ask(count: int) -> None:
                    self._noted = self.record.cancels
                    self.claims.ask(ended, count=count, extra=report)

                if self.buffer.ask(ask):
                    self.release_thread.arm()
                else:
                    self.settlement.put_back(ended)

    def _claiming(self) -> threading.Lock:
        """The claim lock, to be held from taking finished outcomes until they are settled.

        It is taken before the buffer's lock, never after it.
        """
        self.buffer.check_order()
        return self._claim_lock

    def _fetch(self) -> list[Claimed]:
        sizer = self.claim_sizer
        # A lost connection is noticed by the next claim.
        claimed = self.claims.answer(is_urgent=not sizer.serves_many) or []
        sizer.found(len(claimed))
        sizer.take_replies(self.claims.extra_replies)
        return claimed

    def _report(self) -> tuple[Command, ...]:
        return self.claim_sizer.report_commands(self.pools, self.settlement.pool)

    def look_again(self) -> None:
        """Read again what is held after a long input: the worker may have released what was behind it."""
        if self.buffer.has_more:
            self.settle()
            self.refill()

    def settle_soon(self) -> None:
        """Flush finished outcomes that have waited for FLUSH_NS, if no claim comes before the next input."""
        limit = LATER_NS if self.buffer.stage == "asked" else FLUSH_NS
        if self.slot.ended - self._flushed > limit and self.buffer.queue:
            self.settle()

    def settle(self) -> None:
        """Flush finished outcomes, without a claim."""
        flush()
        with self._claiming():
            self.claims.settle(self._take_ended())

    def _settle_behind(self, *, is_long: bool) -> bool:
        """By the release thread: flush what ended before a long input; returns whether some is left.

        Under the claim lock, because nobody may read these entries as held meanwhile and start them again.
        """
        if is_long and not self.options.is_once:
            with self._claiming():
                settled = self.settlement.take()
                try:
                    self.claims.settle(settled)
                except BaseException:
                    self.settlement.put_back(settled)
                    raise
        return self.settlement.waiting > 0

    def _take_ended(self) -> list[Settled]:
        self._flushed = time.monotonic_ns()
        unsettled, self.claims.unsettled = self.claims.unsettled, []
        return unsettled + self.settlement.take()
