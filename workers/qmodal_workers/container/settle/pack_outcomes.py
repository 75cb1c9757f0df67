"""The outcomes of a pack's inputs, signed: several share one where they can."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from qmodal.client.client import Client
from qmodal.spec.options import FunctionOptions
from qmodal.spec.retries import next_step
from qmodal.store.entries import Ended, Requeued
from qmodal.wire.outcome import INLINE_BYTES, Outcome, joined
from qmodal.wire.plain import pack as pack_value, pack_scalars
from qmodal.wire.signing import mac_of
from qmodal_workers.container.run.admission import Admission
from qmodal_workers.container.run.pack import Pack
from qmodal_workers.container.settle.failure_notes import FailureNotes
from qmodal_workers.ipc.tally import Tally

# A result of a pack above this is an outcome of its own.
LARGE_BYTES = INLINE_BYTES // 8


@dataclass(frozen=True, slots=True)
class PackOutcomes:
    """Turns the results of a pack into signed outcomes, and says which inputs get another attempt."""

    client: Client
    container: str
    options: FunctionOptions
    admission: Admission
    tally: Tally
    notes: FailureNotes | None = None

    def retried(self, pack: Pack, results: list[Any]) -> dict[int, float]:
        """The seconds until their next attempt of inputs that get one, by place in the pack."""
        if self.options.retries is None or not pack.has_outcomes:
            return {}
        used, retries = pack.claimed.retries, self.options.retries
        found = {}
        for place, result in enumerate(results, pack.begin):
            delay = next_step(result, retries, used) if isinstance(result, Outcome) else None
            if delay is not None:
                found[place] = delay
        if found:
            self.tally.retried(pack.mean_ns // 1000, len(found))
        return found

    def ended(self, pack: Pack, results: list[Any], retried: dict[int, float]) -> list[Ended]:
        """The outcomes of the inputs that get no other attempt; of each result once, as failed ones are noted."""
        if pack.has_outcomes and self.notes is not None:
            for place, result in enumerate(results, pack.begin):
                is_failed = isinstance(result, Outcome) and result.kind != "value"
                if is_failed and place not in retried:
                    self.notes.note(pack.claimed, pack.envelope, pack.index_of(place), result)
        return [self.of(pack, *run) for run in _runs(pack, results, retried) if run[1]]

    def of(self, pack: Pack, place: int, results: list[Any]) -> Ended:
        """The signed outcome that these consecutive results, from that place on, share; they are counted."""
        first, count = pack.index_of(place), len(results)
        outcome = self._outcome(pack, results)
        if len(outcome.payload) > INLINE_BYTES and count == 1:
            outcome = self.admission.store_result(pack.envelope.call, first, outcome)
        self._count(pack, place, results, outcome.kind)
        sealed = outcome.seal(
            self.client.signer,
            call=pack.envelope.call,
            index=first,
            count=count,
            request=mac_of(pack.claimed.envelope),
        )
        return Ended(first, count, sealed)

    def _count(self, pack: Pack, place: int, results: list[Any], kind: str) -> None:
        """Count these, each with the mean time that an input of the pack took."""
        count, each = len(results), pack.mean_ns
        started = pack.begun + (place - pack.begin) * each + (count - 1) * each // 2
        started += time.time_ns() - time.monotonic_ns()
        wait = started // 1000 - pack.envelope.head.created * 1000
        kinds = {"value" if kind == "values" else kind: count}
        if kind == "mixed":
            kinds = Counter(one.kind if isinstance(one, Outcome) else "value" for one in results)
        for ending, number in kinds.items():
            self.tally.ended(ending, wait, each // 1000, number)

    def _outcome(self, pack: Pack, results: list[Any]) -> Outcome:
        now, each = time.time_ns() // 1_000_000, pack.mean_ns // 1000
        if not pack.has_outcomes:
            if len(results) == 1:
                return Outcome("value", "m", pack_value(results[0]), self.container, now, each)
            return Outcome("values", "m", pack_scalars(results), self.container, now, each)
        outcomes = [
            result
            if isinstance(result, Outcome)
            else Outcome("value", "m", pack_value(result), self.container, now, each)
            for result in results
        ]
        if len(outcomes) == 1:
            return outcomes[0]
        result = joined([outcome[:3] for outcome in outcomes])
        return Outcome(*result, self.container, now, each)


def requeued(pack: Pack, retried: dict[int, float]) -> list[Requeued]:
    """The inputs that get another attempt, to go back in line one by one."""
    return [Requeued(pack.index_of(at), 1, 1, delay) for at, delay in retried.items()]


def _runs(
    pack: Pack, results: list[Any], retried: dict[int, float]
) -> Iterator[tuple[int, list[Any]]]:
    """Runs of consecutive inputs that are not retried: first place and results; a large result is alone."""
    if not retried and pack.size < LARGE_BYTES:
        yield pack.begin, results
        return
    begin, run = pack.begin, list[Any]()
    for place, result in enumerate(results, pack.begin):
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
