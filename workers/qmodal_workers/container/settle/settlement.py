"""What follows when inputs have ended: an outcome to settle, another attempt, or back in line."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from qmodal.client.client import Client
from qmodal.spec.options import FunctionOptions
from qmodal.spec.retries import next_step
from qmodal.store.entries import Claimed, Ended, Requeued, Settled
from qmodal.transport.operation import Op
from qmodal.wire.outcome import INLINE_BYTES, Outcome, joined
from qmodal.wire.plain import pack, pack_scalars
from qmodal.wire.signing import mac_of
from qmodal_workers.container.run.admission import Admission
from qmodal_workers.container.run.pack import Pack
from qmodal_workers.container.settle.coalesce import Done, in_runs, sealed
from qmodal_workers.container.until_ready import INSIST_SECONDS, OUTAGES, insist

# A result of a pack above this is an outcome of its own.
LARGE_BYTES = INLINE_BYTES // 8


@dataclass(slots=True, kw_only=True)
class Settlement:
    """Writes what cannot wait, and collects what is settled together with the next claim."""

    client: Client
    pool: str
    container: str
    options: FunctionOptions
    admission: Admission
    _settled: list[Settled] = field(default_factory=list)
    # Each was one entry, and is not sealed yet. One thread appends, which takes no lock.
    _done: deque[Done] = field(default_factory=deque)
    _packs: deque[Pack] = field(default_factory=deque)  # whole ones, of plain values
    _lock: threading.Lock = field(default_factory=lambda: threading.Lock())

    @property
    def waiting(self) -> int:
        """Inputs that have ended and are to be settled."""
        packed = sum([len(work.results) for work in list(self._packs)])
        return len(self._done) + packed + sum([each.count for each in self._settled])

    def input(self, done: Done) -> None:
        """One input has ended."""
        claimed, envelope, result = done.claimed, done.envelope, done.result
        if result[0] != "value":
            delay = next_step(Outcome(*result), self.options.retries, claimed.retries)
            if delay is not None:
                self.insist(lambda: self.client.pools.retry(self.pool, claimed, delay=delay))
                return
        if len(result[2]) > INLINE_BYTES:
            stored = self.admission.store_result(envelope.call, envelope.first, Outcome(*result))
            done = done._replace(result=stored[:3], blob=stored.blob)
        self._done.append(done)

    def pack(self, work: Pack) -> None:
        """A pack has ended as far as it ran; what is left of it goes back in line."""
        if work.done == work.end and not (work.has_outcomes or work.parting):
            self._packs.append(work)  # sealed by whoever writes it
            return
        if work.parting is not None:
            # No reply came: if the server did it, the entry stands for one input since then.
            keep, part = work.parting
            self.insist(part)
            work.leave(keep)
        results, done = work.results, work.done
        retried = self._retried(work, results)
        if work.is_kept and work.begin in retried:
            delay = retried[work.begin]
            self.insist(lambda: self.client.pools.retry(self.pool, work.claimed, delay=delay))
            return
        ended = [self._ended(work, *run) for run in _runs(work, results, retried) if run[1]]
        if len(ended) == 1 and not retried and done == work.end:
            with self._lock:
                self._settled.append(self._whole(work, ended[0]))
        else:
            again = self._again(work, retried)
            if done < work.end:
                again.append(Requeued(work.index_of(done), work.end - done))
            self.insist(lambda: self.split(work, None, ended, again))

    def split(
        self, work: Pack, keep: int | None, ended: list[Ended], again: list[Requeued]
    ) -> Op[bool]:
        """Take the pack apart; without `keep`, all of it is in `ended` or `again`."""
        return self.client.pools.split(
            self.pool, self.container, work.claimed, keep=keep, ended=ended, again=again
        )

    def leave_alone(self, work: Pack) -> None:
        """As `split_off`, for as long as it takes, by the thread that ran the pack."""
        while not work.is_kept:
            try:
                with work.lock:
                    self.split_off(work)
            except OUTAGES:
                time.sleep(INSIST_SECONDS)

    def split_off(self, work: Pack) -> None:
        """Leave the pack's entry to the input that runs; by the release thread, under the lock."""
        if work.parting is None and not self._part(work):
            return
        assert work.parting is not None
        keep, part = work.parting
        # Whatever it raises, an attempt before it may have been carried out.
        self.client.run(part())
        work.leave(keep)

    def _part(self, work: Pack) -> bool:
        """Decide how to take it apart; False if that was done, or nothing runs at this moment."""
        work.strike()
        place = work.struck[0] - 1 if work.struck else work.end - 1
        results = list(work.results)  # the input may end at any moment
        if work.is_kept or len(results) != place - work.begin:
            work.give_back()
            return False
        retried = self._retried(work, results)
        ended = [self._ended(work, *run) for run in _runs(work, results, retried) if run[1]]
        again = self._again(work, retried)
        if work.struck:
            again.append(Requeued(work.index_of(work.struck[0]), len(work.struck)))
        work.parting = place, partial(self.split, work, work.index_of(place), ended, again)
        return True

    def _again(self, work: Pack, retried: dict[int, float]) -> list[Requeued]:
        return [Requeued(work.index_of(at), 1, 1, delay) for at, delay in retried.items()]

    def release(self, claimed: list[Claimed]) -> None:
        """Give back what was not run."""
        held = [(one.lane, one.entry, one.call) for one in claimed]
        self.insist(lambda: self.client.pools.release(self.pool, held))

    def take(self) -> list[Settled]:
        """What is to be settled; by the release thread, too, when the next input is a long one."""
        with self._lock:
            settled, self._settled = self._settled, []
            done = [self._done.popleft() for _ in range(len(self._done))]
            packs = [self._packs.popleft() for _ in range(len(self._packs))]
        settled += [
            self._whole(work, self._ended(work, work.begin, work.results)) for work in packs
        ]
        return settled + [sealed(run, self.container, self.client.signer) for run in in_runs(done)]

    def put_back(self, settled: list[Settled]) -> None:
        """They could not be settled; they come first next time."""
        with self._lock:
            self._settled[:0] = settled

    def scatter(self, claimed: Claimed) -> None:
        """Put the inputs of a pack back in line one by one: here each has to have its own turn."""
        first, size = claimed.first, claimed.size
        again = [Requeued(index, 1) for index in range(first, first + size)]
        self.insist(
            lambda: self.client.pools.split(
                self.pool, self.container, claimed, keep=None, ended=[], again=again
            )
        )

    def _whole(self, work: Pack, ended: Ended) -> Settled:
        """The pack's entry, which stood for these inputs only."""
        lane, entry, _ = work.claimed
        first, count, sealed = ended
        call, is_kept = work.envelope.call, work.is_kept and work.claimed.size > 1
        return Settled(lane, entry, call, first, sealed, False, count, is_kept)

    def insist(self, operation: Callable[[], Op[Any]]) -> None:
        """Carry it out for as long as it takes."""
        insist(self.client, operation)

    def _retried(self, work: Pack, results: list[Any]) -> dict[int, float]:
        """Seconds to wait before another attempt, by place in the pack."""
        if self.options.retries is None or not work.has_outcomes:
            return {}
        used, retries = work.claimed.retries, self.options.retries
        found = {}
        for place, result in enumerate(results, work.begin):
            delay = next_step(result, retries, used) if isinstance(result, Outcome) else None
            if delay is not None:
                found[place] = delay
        return found

    def _ended(self, work: Pack, place: int, results: list[Any]) -> Ended:
        first, count = work.index_of(place), len(results)
        outcome = self._outcome(work, results)
        if len(outcome.payload) > INLINE_BYTES and count == 1:
            outcome = self.admission.store_result(work.envelope.call, first, outcome)
        sealed = outcome.seal(
            self.client.signer,
            call=work.envelope.call,
            index=first,
            count=count,
            request=mac_of(work.claimed.envelope),
        )
        return Ended(first, count, sealed)

    def _outcome(self, work: Pack, results: list[Any]) -> Outcome:
        now, each = time.time_ns() // 1_000_000, work.each // 1000
        if not work.has_outcomes:
            if len(results) == 1:
                return Outcome("value", "m", pack(results[0]), self.container, now, each)
            return Outcome("values", "m", pack_scalars(results), self.container, now, each)
        outcomes = [
            result
            if isinstance(result, Outcome)
            else Outcome("value", "m", pack(result), self.container, now, each)
            for result in results
        ]
        if len(outcomes) == 1:
            return outcomes[0]
        result = joined([outcome[:3] for outcome in outcomes])
        return Outcome(*result, self.container, now, each)


def _runs(
    work: Pack, results: list[Any], retried: dict[int, float]
) -> Iterator[tuple[int, list[Any]]]:
    """Consecutive inputs that are not retried, with what became of them; large results alone."""
    if not retried and work.size < LARGE_BYTES:
        yield work.begin, results
        return
    begin, run = work.begin, list[Any]()
    for place, result in enumerate(results, work.begin):
        is_large = isinstance(result, Outcome) and len(result.payload) > LARGE_BYTES
        if is_large or place in retried:
            if run:
                yield begin, run
            if place not in retried:
                yield place, [result]
            begin, run = place + 1, []
        else:
            run.append(result)
    if run:
        yield begin, run
