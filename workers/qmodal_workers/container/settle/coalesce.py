"""Merges outcomes: consecutive inputs of a call that ended one after another are settled as one.

Each came in an entry of its own, and some of these may be another container's meanwhile; the server then
takes the outcome for the other inputs only.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from qmodal.store.entries import Claimed, Settled
from qmodal.wire.envelope import Envelope
from qmodal.wire.outcome import Outcome, Result, joined
from qmodal.wire.signing import Signer, mac_of

# Without the generated constructor, which takes three times as long.
_new = tuple.__new__
# A larger result is an outcome of its own, and an outcome is for at most so many inputs: so a shared
# one is never large, nor for more inputs than readers accept.
SMALL_BYTES, MOST_IN_RUN = 1024, 256


class Done(NamedTuple):
    """One input that has ended; `ended` in monotonic nanoseconds, `took` in seconds."""

    claimed: Claimed
    envelope: Envelope
    result: Result
    ended: int
    took: float
    blob: bytes | None = None  # digest of a result that has a key of its own


def in_runs(done: Iterable[Done]) -> Iterator[list[Done]]:
    """Groups of inputs that can share an outcome: consecutive ones of a call, with small results."""
    run: list[Done] = []
    following: tuple[str, int, int] | None = None  # call, lane and index that would go on with it
    for one in done:
        envelope = one.envelope
        call, lane, index = envelope.head.call, one.claimed.lane, envelope.first
        is_small = len(one.result[2]) <= SMALL_BYTES and one.blob is None and envelope.blob is None
        if run and not (is_small and following == (call, lane, index)):
            yield run
            run = []
        run.append(one)
        following = (call, lane, index + 1) if is_small and len(run) < MOST_IN_RUN else None
    if run:
        yield run


def sealed(run: list[Done], container: str, signer: Signer) -> Settled:
    """The signed outcome of a run, ready to be written."""
    (lane, entry, fields), envelope, result, ended, took, blob = run[0]
    began = time.time_ns() - (time.monotonic_ns() - ended) - int(took * 1e9)
    count = len(run)
    if count > 1:
        result = joined([one.result for one in run])
        took = sum([one.took for one in run]) / count
        entry = " ".join([one.claimed.entry for one in run])
    call, first = envelope.head.call, envelope.first
    outcome = _new(
        Outcome, (*result, container, began // 1_000_000, round(took * 1e6), blob, first, count)
    )
    signed = outcome.seal(signer, call=call, index=first, count=count, request=mac_of(fields[1]))
    return Settled(lane, entry, call, first, signed, envelope.blob is not None, count)
