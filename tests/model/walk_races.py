"""Steps of the random walk that put several transitions into one millisecond."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmodal.transport.operation import Command
from qmodal.wire.ids import new_call_id, shard_of
from tests.model.model import LOST, Part, WalkCall, command_of
from tests.model.walk_ends import cancel_call
from tests.model.walk_submits import submission_of, submitted

if TYPE_CHECKING:
    from tests.model.walk import Walk


def turn_over(walk: Walk, pool: str) -> None:
    """Within a millisecond the pool empties, leaves and comes back; only tokens tell."""
    state = walk.pools[pool]
    if not state.is_active or state.queued or state.delayed or state.inflight() > 20:
        return
    attempts = [
        attempt
        for container, held in state.held.items()
        for attempt in walk.attempts(pool, container, list(held))
    ]
    call, sizes = new_call_id(shard_of(pool)), [walk.random.choice((1, 3))]
    walk.calls[call] = WalkCall(pool, sizes[0])
    container = walk.container_for(pool)
    commands = [
        *([walk.pools_of.settle_command(pool, attempts)] if attempts else []),
        *(_retire(walk, pool, container) for container in state.held),
        command_of(walk.pools_of.leave(pool)),
        command_of(walk.pools_of.leave(pool)),
        *walk.calls_of.submit_commands(submission_of(walk, call, sizes)),
        walk.pools_of.claim_command(pool, container, count=1, block=None),
    ]
    gone = len(state.held) + bool(attempts)
    state.held.clear()
    replies = walk.line.exchange(commands)
    assert replies[gone] == 1, "the empty pool did not leave"
    assert replies[-2] == b"OK"
    submitted(walk, call, sizes)
    walk.claimed(pool, container, replies[-1])


def collide(walk: Walk, pool: str) -> None:
    """A call gets an entry in both streams in one millisecond, so their ids may be equal."""
    state = walk.pools[pool]
    for container, held in state.held.items():
        for part in held:
            about = walk.calls[part.call]
            if about.total is None and not about.is_cancelled and len(state.queued) < 100:
                _collide(walk, pool, container, part)
                return


def _collide(walk: Walk, pool: str, container: str, part: Part) -> None:
    claimed = walk.take(pool, container, part)
    entry = (claimed.lane, claimed.entry, part.call)
    release = command_of(walk.pools_of.release(pool, [entry]))
    submit = walk.calls_of.submit_commands(submission_of(walk, part.call, [2]))
    assert walk.line.exchange([release, *submit])[0] == 1
    walk.requeued(pool, part)
    submitted(walk, part.call, [2])
    if walk.random.random() < 0.3:
        cancel_call(walk, pool, part.call)


def _retire(walk: Walk, pool: str, container: str) -> Command:
    return command_of(walk.pools_of.reclaim(pool, container, reason=LOST, charged=()))
