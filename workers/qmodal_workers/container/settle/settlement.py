"""Settles inputs that have ended, gives them another attempt, or puts them back in line."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from qmodal.client.client import Client
from qmodal.spec.options import FunctionOptions
from qmodal.spec.retries import next_step
from qmodal.store.entries import Claimed, Ended, Requeued, Settled, charge
from qmodal.transport.operation import Op
from qmodal.wire.outcome import INLINE_BYTES, Outcome, Result
from qmodal_workers.container.run.admission import Admission
from qmodal_workers.container.run.input_spans import InputSpans
from qmodal_workers.container.run.pack import Pack
from qmodal_workers.container.settle.coalesce import Done, in_runs, sealed
from qmodal_workers.container.settle.failure_notes import FailureNotes
from qmodal_workers.container.settle.pack_outcomes import PackOutcomes, requeued
from qmodal_workers.container.settle.splitting import PackSplitter
from qmodal_workers.container.until_ready import insist
from qmodal_workers.ipc.tally import Tally

T = TypeVar("T")
# So much fits into what the kernel keeps for a connection.
QUICK_BYTES = 64 * 1024


@dataclass(slots=True, kw_only=True)
class Settlement:
    """Collects outcomes, to be settled together with the next claim; writes at once what cannot wait."""

    client: Client
    pool: str
    container: str
    options: FunctionOptions
    admission: Admission
    tally: Tally = field(default_factory=Tally)
    notes: FailureNotes | None = None
    spans: InputSpans = field(default_factory=InputSpans)
    outcomes: PackOutcomes = field(init=False)
    splitter: PackSplitter = field(init=False)
    _settled: list[Settled] = field(default_factory=list)
    # Inputs that were one entry each, not sealed yet. One thread appends, which needs no lock.
    _done: deque[Done] = field(default_factory=deque)
    _packs: deque[Pack] = field(default_factory=deque)  # whole ones, of plain values
    _lock: threading.Lock = field(default_factory=lambda: threading.Lock())

    def __post_init__(self) -> None:
        self.outcomes = PackOutcomes(
            self.client, self.container, self.options, self.admission, self.tally, self.notes
        )
        self.splitter = PackSplitter(self.client, self.pool, self.container, self.outcomes)

    @property
    def waiting(self) -> int:
        """How many inputs have ended and are still to be settled."""
        if not (self._packs or self._settled):  # nearly always, with each input
            return len(self._done)
        packed = sum([len(pack.results) for pack in list(self._packs)])
        return len(self._done) + packed + sum([each.count for each in self._settled])

    def input(self, done: Done) -> None:
        """Take in that one input has ended: retry it now, or keep its outcome for the next write."""
        claimed, envelope, result = done.claimed, done.envelope, done.result
        if result[0] != "value":
            delay = next_step(Outcome(*result), self.options.retries, claimed.retries)
            if delay is not None:
                self.tally.retried(int(done.took * 1e6))
                self.insist(lambda: self.client.pools.retry(self.pool, claimed, delay=delay))
                self.spans.over(envelope.call, envelope.first)
                return
            done = self._noted(done, result)
        if len(result[2]) > INLINE_BYTES:
            stored = self.admission.store_result(envelope.call, envelope.first, Outcome(*result))
            done = done._replace(result=stored[:3], blob=stored.blob)
            if result[0] == "value" and stored.kind == "unstored":
                done = self._noted(done, done.result)
        self._done.append(done)

    def _noted(self, done: Done, result: Result) -> Done:
        """Note that it has failed; what has ended, now with whether its arguments are kept."""
        if self.notes is None:
            return done
        envelope, seconds = done.envelope, done.took
        began = time.time_ns() - (time.monotonic_ns() - done.ended) - int(seconds * 1e9)
        outcome = Outcome(*result, started=began // 1_000_000, took=round(seconds * 1e6))
        is_kept = self.notes.note(done.claimed, envelope, envelope.first, outcome)
        return done._replace(keeps_arguments=is_kept)

    def ready(self, done: list[Done]) -> list[Settled] | None:
        """What has ended as outcomes to write, nothing of it kept here; None if one needs more than that, or is large."""
        size = 0
        for one in done:
            if one.result[0] != "value":  # it may be retried
                return None
            size += len(one.result[2])
        if size > QUICK_BYTES:
            return None
        return self._sealed(done)

    def pack(self, pack: Pack) -> None:
        """Take in that a pack has ended as far as it ran; unstarted inputs go back in line."""
        if pack.done == pack.end and not (pack.has_outcomes or pack.split):
            self._packs.append(pack)  # sealed by the thread that writes it
            return
        if pack.split is not None:
            self.splitter.finish(pack, pack.split)
        results, done = pack.results, pack.done
        retried = self.outcomes.retried(pack, results)
        if pack.is_kept and pack.begin in retried:
            delay = retried[pack.begin]
            self.insist(lambda: self.client.pools.retry(self.pool, pack.claimed, delay=delay))
            self._over(pack)
            return
        ended = self.outcomes.ended(pack, results, retried)
        if len(ended) == 1 and not retried and done == pack.end:
            with self._lock:
                self._settled.append(self._whole(pack, ended[0]))
        else:
            again = requeued(pack, retried)
            if done < pack.end:
                again.append(Requeued(pack.index_of(done), pack.end - done))
            self.insist(lambda: self.splitter.dissolve(pack, ended, again))
            self._over(pack)

    def _over(self, pack: Pack) -> None:
        """What became of the pack is written."""
        self.spans.over(pack.envelope.call, pack.claimed.first)

    def release(self, claimed: list[Claimed]) -> None:
        """Give back entries that were not run."""
        held = [(one.lane, one.entry, one.call) for one in claimed]
        self.insist(lambda: self.client.pools.release(self.pool, held))

    def take(self) -> list[Settled]:
        """Remove and return the outcomes to be settled; called by the release thread, too."""
        with self._lock:
            settled, self._settled = self._settled, []
            done = [self._done.popleft() for _ in range(len(self._done))]
            packs = [self._packs.popleft() for _ in range(len(self._packs))]
        settled += [
            self._whole(pack, self.outcomes.of(pack, pack.begin, pack.results)) for pack in packs
        ]
        return settled + self._sealed(done)

    def _sealed(self, done: list[Done]) -> list[Settled]:
        signer, tally = self.client.signer, self.tally
        return [sealed(run, self.container, signer, tally) for run in in_runs(done)]

    def put_back(self, settled: list[Settled]) -> None:
        """Put back outcomes that could not be settled; they come first next time."""
        with self._lock:
            self._settled[:0] = settled

    def scatter(self, claimed: Claimed) -> None:
        """Put the inputs of a pack back in line one by one, for a pool whose inputs may not share an entry."""
        first, size = claimed.first, claimed.size
        again = [Requeued(index, 1) for index in range(first, first + size)]
        self.insist(
            lambda: self.client.pools.split(
                self.pool, self.container, claimed, keep=None, ended=[], again=again
            )
        )

    def _whole(self, pack: Pack, ended: Ended) -> Settled:
        """The settlement of a pack's entry by one outcome, for all inputs that the entry stands for."""
        lane, entry, _ = pack.claimed
        first, count, sealed = ended
        call, is_kept = pack.envelope.call, pack.is_kept and pack.claimed.size > 1
        return Settled(lane, entry, call, first, sealed, False, count, is_kept)

    def set_aside(self, claimed: Claimed, reason: str) -> None:
        """End an entry that cannot be processed, for this reason; a person finds it among the dead letters."""
        self.tally.add("unprocessable", claimed.size if claimed.is_shaped else 1)
        self.insist(lambda: self.client.pools.bury(self.pool, claimed, reason=reason))

    def reclaim(self, charged: list[Claimed], *, reason: str, budget: int) -> None:
        """Take back all that this container holds, these charged for their try here; it must be about to stop."""
        back, lost = self.insist(
            lambda: self.client.pools.reclaim(
                self.pool,
                self.container,
                reason=reason,
                charged=[charge(each) for each in charged],
                budget=budget,
            )
        )
        self.tally.add("redeliveries", back)
        self.tally.add("lost", lost)

    def insist(self, operation: Callable[[], Op[T]]) -> T:
        """Carry the operation out, however long the server takes; its result."""
        return insist(self.client, operation)
