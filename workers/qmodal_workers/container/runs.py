"""What ended one after another is settled as one: an outcome for several inputs of a call.

Each came with an entry of its own, and any of these may have become somebody else's meanwhile; the
server then takes the outcome for the others only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from qmodal.store.entries import Claimed, Settled
from qmodal.wire.envelope import Envelope
from qmodal.wire.outcome import Outcome, joined
from qmodal.wire.signing import Signer, mac_of

# A result above this is an outcome of its own, so that no outcome of several is large.
SMALL_BYTES = 1024


class Done(NamedTuple):
    """One input that has ended."""

    claimed: Claimed
    envelope: Envelope
    outcome: Outcome


def in_runs(done: Iterable[Done]) -> Iterator[list[Done]]:
    """Those that can share an outcome: small ones of consecutive inputs."""
    run: list[Done] = []
    for one in done:
        if run and not _goes_on(run[-1], one):
            yield run
            run = []
        run.append(one)
    if run:
        yield run


def _goes_on(last: Done, one: Done) -> bool:
    before, envelope = last.envelope, one.envelope
    return (
        envelope.index == before.index + 1
        and envelope.call == before.call
        and one.claimed.lane == last.claimed.lane
        and _is_small(last)
        and _is_small(one)
    )


def _is_small(one: Done) -> bool:
    """Whether neither its arguments nor its result are stored apart, or large."""
    outcome = one.outcome
    return (
        one.envelope.blob is None and outcome.blob is None and len(outcome.payload) <= SMALL_BYTES
    )


def sealed(run: list[Done], signer: Signer) -> Settled:
    """The run's outcome, ready to be written."""
    (lane, entry, fields), envelope, outcome = run[0]
    if len(run) > 1:
        outcome = joined([one.outcome for one in run])
        entry = " ".join([one.claimed.entry for one in run])
    signed = outcome.seal(
        signer,
        call=envelope.call,
        index=envelope.index,
        count=len(run),
        request=mac_of(fields[1]),
    )
    has_blob = envelope.blob is not None
    return Settled(lane, entry, envelope.call, envelope.index, signed, has_blob, len(run))
