"""Whether server and model of a random walk agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmodal.store.keys import shard_of
from tests.model import LOST

if TYPE_CHECKING:
    from tests.walk import Walk


def check(walk: Walk) -> None:
    """Compare counters, streams, lifetimes and the active index with the model."""
    keys = walk.pools_of.keys
    for pool, state in walk.pools.items():
        names = (keys.inputs(pool), keys.again(pool))
        inflight, score, streams, first, second, delayed = walk.line.exchange(
            [
                (b"HGET", keys.pool(pool), b"inflight"),
                (b"ZSCORE", keys.active(shard_of(pool)), pool),
                (b"EXISTS", *names),
                *((b"XLEN", name) for name in names),
                (b"ZCARD", keys.delayed(pool)),
            ]
        )
        assert int(inflight or 0) == state.inflight()
        assert (score is not None, streams) == (state.is_active, 2 if state.is_active else 0)
        assert delayed == len(state.delayed)
        assert first + second == state.inflight() - delayed
    _check_lifetimes(walk)


def _check_lifetimes(walk: Walk) -> None:
    keys = walk.calls_of.keys
    known = list(walk.calls)
    lifetimes = walk.line.exchange([(b"PTTL", keys.call(call)) for call in known])
    for call, left in zip(known, lifetimes, strict=True):
        about = walk.calls[call]
        assert left > 0 if about.is_ended else left == -1, f"lifetime {left} of {about}"
        if about.is_ended and (about.is_cancelled or about.total is not None):
            _check_outputs(walk, call)


def _check_outputs(walk: Walk, call: str) -> None:
    """The call has ended: each input has its one outcome, and nothing else is left."""
    keys, about = walk.calls_of.keys, walk.calls.pop(call)
    blobs = [keys.blob(call, index) for index in range(about.submitted)]
    outputs, left, kept = walk.line.exchange(
        [
            (b"XRANGE", keys.outputs(call), b"-", b"+"),
            (b"PTTL", keys.outputs(call)),
            (b"EXISTS", keys.moved(call), *blobs),
        ]
    )
    found = [(int(fields[1]), fields[3]) for _, fields in outputs]
    expected = dict(about.outcomes)
    if about.is_cancelled:
        expected[-1] = b"cancelled"
    assert sorted(found) == sorted(expected.items())
    assert left > 0 or not outputs
    waiting = {one for one in walk.pools[about.pool].delayed if one[0] == call}
    blobs_left = waiting & {(call, index) for index in about.blobs}
    assert kept == len(blobs_left), f"moved or blobs left of {call}: {about}"
    if waiting:
        walk.calls[call] = about  # they come up one day, and must be dropped then


def finish(walk: Walk) -> None:
    """Let everything end, and look once more."""
    for pool, state in walk.pools.items():
        walk.join(pool)
        while state.inflight():
            walk.promote(pool)
            walk.claim(pool)
            for container, held in state.held.items():
                attempts = walk.attempts(pool, container, list(held)[:100])
                if attempts:
                    walk.line.exchange([walk.pools_of.settle_command(pool, attempts)])
    check(walk)
    for pool, state in walk.pools.items():
        for container in list(state.held):
            walk.run(walk.pools_of.reclaim(pool, container, reason=LOST, charged=()))
        assert walk.run(walk.pools_of.leave(pool))
    left = [call for call, about in walk.calls.items() if not about.is_ended]
    assert not left
    walk.line.close()
