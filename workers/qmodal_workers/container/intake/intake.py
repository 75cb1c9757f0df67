"""What a container claims and settles: in batches, and ahead of its need while inputs are short."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from qmodal.client import context
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
from qmodal_workers.container.intake.prefetch import LOOK_SECONDS, PrefetchBuffer
from qmodal_workers.container.intake.status import StatusWriter
from qmodal_workers.container.own_output import flush
from qmodal_workers.container.run.slot import Slot
from qmodal_workers.container.settle.settlement import Settlement
from qmodal_workers.ipc.shared_record import SharedRecord

# What has ended waits for so long for a write that also claims, before it has one of its own; longer
# if such a write is near.
FLUSH_NS, LATER_NS = 5_000_000, 25_000_000
# A worker that renews every two seconds leaves its lease good for five at least. With less than that
# it stands still, and so may we have: what is claimed may be somebody else's, or cancelled.
SURE_NS = 4_000_000_000
# Without a lease: until the next look whether there is one again.
STAND_BY_SECONDS = 0.05


@dataclass(slots=True, kw_only=True)
class Intake:
    """Fills the shelf, and writes what has ended with the same commands.

    While the last inputs of a batch run, the next batch is on its way already (`reach`): the server
    and this container work at the same time.
    """

    slot: Slot
    claims: ClaimConnection
    record: SharedRecord
    settlement: Settlement
    options: FunctionOptions
    pools: Pools
    claim_sizer: ClaimSizer = field(init=False)
    buffer: PrefetchBuffer = field(init=False)
    status: StatusWriter = field(init=False)
    _may_reach: bool = field(init=False)
    _settling: threading.Lock = field(default_factory=lambda: threading.Lock())
    _flushed: int = 0
    _is_dry: bool = True  # nothing came of the last claim
    _low: int = 0  # with at most so many on the shelf the next ones are claimed
    _noted: int = 0  # cancelled inputs that were heard of when the last claim was asked for

    def __post_init__(self) -> None:
        is_once = self.options.is_once
        self.claim_sizer = ClaimSizer(most=1) if is_once else ClaimSizer()
        self.buffer = PrefetchBuffer(
            self.slot,
            self.settlement.release,
            self.settlement.split_off,
            self._settle_behind,
            self._fetch,
            self._prepare,
            clock=time.monotonic_ns,
            tick=self.record.tick,
        )
        self.status = StatusWriter(self.record, self.slot, self.buffer)
        # Whoever may start one input only, or one at a time, has no use for others.
        self._may_reach = is_packable(self.options)

    def claim(self) -> None:
        """Fill the empty shelf: with what was claimed ahead, else with what comes."""
        context.leave_input()
        # First of all: what has ended must not be timed out while something keeps us waiting here.
        self.status.idle()
        flush()
        if self.record.lease_left <= 0:
            self._stand_by()
            return
        self._keep_plan()
        claimed = self.buffer.take_ahead()
        may_be_empty = True
        if claimed is None:
            may_be_empty = self._ask()
            claimed = self._fetch()
        self._is_dry = not claimed
        is_sure = not self.claims.is_doubtful and self.record.lease_left > SURE_NS
        if is_sure and (claimed or may_be_empty):
            self._low = len(claimed) * 3 // 4
            self.record.heard = self._noted
            self.buffer.put(claimed)
            self.status.claimed(claimed, self.claims.connection)
        else:
            # The connection was lost, something was not settled, or nothing came for seconds: what
            # this container holds without knowing, nobody else would ever run. Or its worker stands
            # still: what came may have been taken back before we read it.
            self.refill()

    def _stand_by(self) -> None:
        """Claim nothing, as the worker's lease may have ended.

        Others take what this box holds for lost, one container after another: what they put back
        in line would come here, to be lost again.
        """
        self.settle()
        self.buffer.release_all()
        time.sleep(STAND_BY_SECONDS)

    def _ask(self) -> bool:
        """Settle and claim; whether that answers at once, even if there is nothing.

        Whoever waits has no use for several: what comes is shared with the others that wait.
        """
        with self._settling:
            ended = self._take_ended()
        inflight = self.claims.inflight - sum([each.count for each in ended])
        count = 1 if self._is_dry else self.claim_sizer.count(inflight)
        block = None if count > 1 else self._block(FIRST_BLOCK_MS if ended else BLOCK_MS)
        self._noted = self.record.cancels
        self.claims.ask(ended, count=count, block=block, news=self._news())
        return block is None

    def _block(self, most: int) -> int:
        """Milliseconds to wait for something: not until after the worker's lease."""
        left = self.record.lease_left // 100_000_000 * 100  # in steps, as each is packed once
        return max(1, min(most, left))

    def refill(self) -> None:
        """Put on the shelf what the server says is held, and nothing else."""
        flush()
        with self._settling:
            # What has ended is held, too, until it is settled, and would run again.
            self.claims.settle(self._take_ended())
            noted = self.record.cancels
            self.buffer.refill(self.claims.held)
            self.record.heard = noted
        if self.record.lease_left <= 0:
            self.buffer.release_all()
        self.status.claimed(self.buffer.waiting(), self.claims.connection)

    def reach(self) -> None:
        """Claim the next ones while the last ones run, if they are short."""
        buffer = self.buffer
        if len(buffer.queue) > self._low or buffer.has_ahead or not self._may_reach:
            return
        count = self.claim_sizer.ahead(self.claims.inflight - self.settlement.waiting)
        if count and not self.record.is_draining:
            flush()
            leaves_time = self.claim_sizer.leaves_time
            buffer.plan(count, is_rung=leaves_time)
            if not leaves_time:
                self._keep_plan()
        elif self.settlement.waiting and not buffer.queue:
            self.settle()  # what runs next may take long, and keep every thread from writing this

    def _prepare(self) -> None:
        """By the release thread: settle, claim, and look at what comes of it, while user code runs."""
        self._keep_plan()
        if self.claims.is_answered(LOOK_SECONDS):
            for claimed in self.buffer.read_ahead()[:1]:
                self.settlement.admission.foresee(claimed)

    def _keep_plan(self) -> None:
        """Claim ahead what is planned, if it still is, and settle what has ended with the same write."""
        with self._settling:
            if self.buffer.planned:
                ended = self._take_ended()
                news = self._news()

                def ask(count: int) -> None:
                    self._noted = self.record.cancels
                    self.claims.ask(ended, count=count, news=news)

                if not self.buffer.expect(ask):
                    self.settlement.put_back(ended)

    def _fetch(self) -> list[Claimed]:
        claimed = self.claims.answer() or []  # a lost connection is noticed by the next claim
        self.claim_sizer.hear(self.claims.news)
        return claimed

    def _news(self) -> tuple[Command, ...]:
        return self.claim_sizer.news(self.pools, self.settlement.pool)

    def ended(self, inputs: int = 1) -> float:
        """The entry in the slot, of so many inputs, has ended; how many seconds it took."""
        seconds = self.slot.finish(time.monotonic_ns())
        self.claim_sizer.ran(seconds, inputs)
        return seconds

    def look_again(self) -> None:
        """Re-read what is held after a long input: the worker may have released what was behind it."""
        if self.buffer.has_more:
            self.settle()
            self.refill()

    def settle_soon(self) -> None:
        """Write what has ended if that has been waiting for a while, and has to wait on."""
        limit = LATER_NS if self.buffer.is_expecting else FLUSH_NS
        if self.slot.ended - self._flushed > limit and self.buffer.queue:
            self.settle()

    def settle(self) -> None:
        """Write what has ended."""
        flush()
        with self._settling:
            self.claims.settle(self._take_ended())

    def _settle_behind(self, is_long: bool) -> bool:
        """What ended before the input that runs now does not wait for a long one.

        By the release thread. While it is at it, nobody reads what is held: that would start again.
        """
        if is_long and not self.options.is_once:
            with self._settling:
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
