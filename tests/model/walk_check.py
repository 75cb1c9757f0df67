"""Whether server and model of a random walk agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmodal.store.results.outputs import parse_outputs
from qmodal.wire.ids import shard_of
from tests.model.model import LOST

if TYPE_CHECKING:
    from tests.model.walk import Walk


def check(walk: Walk) -> None:
    """Compare counters, notes, streams, lifetimes and the active index with the model."""
    keys = walk.pools_of.keys
    for pool, state in walk.pools.items():
        names = (keys.inputs(pool), keys.again(pool))
        inflight, fields, score, streams, first, second, delayed = walk.line.exchange(
            [
                (b"HGET", keys.pool(pool), b"inflight"),
                (b"HKEYS", keys.pool(pool)),
                (b"ZSCORE", keys.active(shard_of(pool)), pool),
                (b"EXISTS", *names),
                *((b"XLEN", name) for name in names),
                (b"ZCARD", keys.delayed(pool)),
            ]
        )
        assert int(inflight or 0) == state.inflight()
        notes = {field for field in fields if field.startswith(b"kept:")}
        assert notes == {b"kept:%d:%b" % (lane, entry.encode()) for lane, entry in state.kept}
        assert (score is not None, streams) == (state.is_active, 2 if state.is_active else 0)
        assert delayed == len(state.delayed)
        assert first + second == state.entries()
    _check_records(walk)


def _check_records(walk: Walk) -> None:
    keys = walk.calls_of.keys
    known = list(walk.calls)
    lifetimes = walk.line.exchange([(b"PTTL", keys.call(call)) for call in known])
    counts = walk.line.exchange([(b"HGET", keys.call(call), b"settled") for call in known])
    for call, left, settled in zip(known, lifetimes, counts, strict=True):
        about = walk.calls[call]
        assert left > 0 if about.is_ended else left == -1, f"lifetime {left} of {about}"
        assert int(settled or 0) == len(about.outcomes)
        if about.is_ended and (about.is_cancelled or about.total is not None):
            _check_outputs(walk, call)


def _check_outputs(walk: Walk, call: str) -> None:
    """The call has ended: each input has its one outcome, and nothing else is left."""
    keys, about = walk.calls_of.keys, walk.calls[call]
    blobs = [keys.blob(call, index) for index in range(about.submitted)]
    outputs, left, is_moved, *kept = walk.line.exchange(
        [
            (b"XRANGE", keys.outputs(call), b"-", b"+"),
            (b"PTTL", keys.outputs(call)),
            (b"EXISTS", keys.moved(call)),
            *((b"EXISTS", blob) for blob in blobs),
        ]
    )
    found = [
        (output.index + n, output.signed or (output.note or "").encode())
        for output in parse_outputs([[b"outputs", outputs]])
        for n in range(output.count)
    ]
    expected = dict(about.outcomes)
    if about.is_cancelled:
        expected[-1] = b"cancelled"
    assert sorted(found) == sorted(expected.items())
    assert left > 0 or not outputs
    state = walk.pools[about.pool]
    unfinished = state.unfinished(call)
    indexes = {index for part in unfinished for _, index in part.inputs()}
    assert {index for index, there in enumerate(kept) if there} == indexes & about.blobs
    held = [claimed for held in state.held.values() for claimed in held.values()]
    assert is_moved == any(claimed.lane == 2 and claimed.call == call for claimed in held)
    if not unfinished:  # else it comes up one day, and must be dropped then
        del walk.calls[call]


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
    assert not any(state.kept for state in walk.pools.values())
    check(walk)
    for pool, state in walk.pools.items():
        for container in list(state.held):
            walk.run(walk.pools_of.reclaim(pool, container, reason=LOST, charged=()))
        assert walk.run(walk.pools_of.leave(pool))
    left = [call for call, about in walk.calls.items() if not about.is_ended]
    assert not left
    walk.line.close()
