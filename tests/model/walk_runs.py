"""A step of the random walk: inputs that came one by one are settled with one outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmodal.store.entries import Settled
from tests.model.model import Late, Part

if TYPE_CHECKING:
    from tests.model.walk import Walk


def settle_run(walk: Walk, pool: str) -> None:
    """A container settles consecutive inputs, some of which may be somebody else's meanwhile."""
    state = walk.pools[pool]
    container, parts = walk.some_held(pool, 150)
    run = _longest_run(walk, pool, container, parts)
    if len(run) < 2:
        return
    (call, first, _), lane = run[0], state.held[container][run[0]].lane
    entries = " ".join(state.held[container][part].entry for part in run)
    lost = walk.random.choice((0.0, 0.0, 0.3, 1.0))
    stale = [part for part in run if walk.random.random() < lost]
    for part in run:
        claimed = walk.take(pool, container, part)
        if part in stale:
            assert walk.run(walk.pools_of.release(pool, [(lane, claimed.entry, call)])) == 1
            walk.requeued(pool, part)
    settled = Settled(lane, entries, call, first, walk.outcome(), False, len(run))
    for part in run:
        if part not in stale:
            walk.ended(part, settled.outcome)
    command = walk.pools_of.settle_command(pool, [settled])
    assert walk.line.exchange([command])[0] == [state.inflight(), int(not stale)]
    walk.past.append(Late(pool, command))


def _longest_run(walk: Walk, pool: str, container: str, parts: list[Part]) -> list[Part]:
    """Consecutive inputs of one call and lane, each with an entry of its own."""
    state, runs = walk.pools[pool], list[list[Part]]([[]])
    for part in sorted(parts):
        claimed = state.held[container][part]
        is_alone = part.size == 1 and (claimed.lane, claimed.entry) not in state.kept
        if not is_alone or part.first in walk.calls[part.call].blobs:
            continue
        last = runs[-1][-1] if runs[-1] else None
        goes_on = last and (last.call, last.behind) == (part.call, part.first)
        if goes_on and last and state.held[container][last].lane == claimed.lane:
            runs[-1].append(part)
        else:
            runs.append([part])
    return max(runs, key=len)
