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
from qmodal_workers.ipc.tally import Tally

# Without the generated constructor, which takes three times as long.
_new = tuple.__new__
# A larger result is an outcome of its own, and an outcome is for at most so many inputs: so a shared
# one is never large, nor for more inputs than readers accept.
SMALL_BYTES, MOST_IN_RUN = 1024, 256
# Inputs of a run that each took less are counted together, with their mean.
SHORT_SECONDS = 0.001
_VALUES = {"value"}


class Done(NamedTuple):
    """One input that has ended; `ended` in monotonic nanoseconds, `took` in seconds."""

    claimed: Claimed
    envelope: Envelope
    result: Result
    ended: int
    took: float
    blob: bytes | None = None  # digest of a result that has a key of its own
    keeps_arguments: bool = False  # where these are stored apart: people may run it again


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


def sealed(run: list[Done], container: str, signer: Signer, tally: Tally) -> Settled:
    """The signed outcome of a run, ready to be written; its inputs are counted."""
    (lane, entry, fields), envelope, result, ended, took, blob, keeps = run[0]
    ahead = time.time_ns() - time.monotonic_ns()
    began = ended + ahead - int(took * 1e9)
    count = len(run)
    if count == 1:
        wait = began // 1000 - envelope.head.created * 1000
        tally.ended(result[0], wait, int(took * 1e6))
    else:
        _count(run, ahead, tally)
        result = joined([one.result for one in run])
        took = sum([one.took for one in run]) / count
        entry = " ".join([one.claimed.entry for one in run])
    call, first = envelope.head.call, envelope.first
    outcome = _new(
        Outcome, (*result, container, began // 1_000_000, round(took * 1e6), blob, first, count)
    )
    signed = outcome.seal(signer, call=call, index=first, count=count, request=mac_of(fields[1]))
    has_blob = envelope.blob is not None
    return Settled(lane, entry, call, first, signed, has_blob, count, False, keeps)


def _count(run: list[Done], ahead: int, tally: Tally) -> None:
    """Count inputs of one call; `ahead`: by how much the time since 1970 is ahead of the monotonic clock.

    Short ones are counted together: to count each would take a noticeable part of their time.
    """
    created = run[0].envelope.head.created * 1000
    first, last = run[0], run[-1]
    if {one.result[0] for one in run} == _VALUES and max([one.took for one in run]) < SHORT_SECONDS:
        took = round(sum([one.took for one in run]) / len(run) * 1e6)
        ended = (first.ended + last.ended) // 2 + ahead
        tally.ended("value", ended // 1000 - created - took, took, len(run))
        return
    for one in run:
        took = round(one.took * 1e6)
        tally.ended(one.result[0], (one.ended + ahead) // 1000 - created - took, took)
