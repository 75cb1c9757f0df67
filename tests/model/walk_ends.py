"""Steps of the random walk that end inputs from outside: deaths, cancellations, purges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmodal.store.entries import Claimed
from tests.model.model import LOST, Part

if TYPE_CHECKING:
    from tests.model.walk import Walk

BUDGET = 3
OVER, BAD = "over", "bad"


def reclaim(walk: Walk, pool: str) -> None:
    """A container has died; some of what it held had been started, or any of it may have been."""
    state = walk.pools[pool]
    if not state.held:
        return
    container = walk.random.choice(list(state.held))
    held = dict(state.held[container])
    is_unknown = walk.random.random() < 0.2
    charges = {} if is_unknown else _charges(walk, held)
    charged = [f"{held[one].lane} {held[one].entry} {at}" for one, at in charges.items()]
    since = _some_moment(walk, held)
    back, lost = 0, 0
    for part, claimed in held.items():
        walk.take(pool, container, part)
        walk.outdated(pool, container, part, claimed)
        at, is_any = charges.get(part), is_unknown
        if claimed.lane == 2 and 0 < since <= _moment(claimed):
            at, is_any = None, False
        for piece, is_charged in _pieces(part, at, is_unknown=is_any):
            if is_charged and _charge(walk, piece):
                walk.ended(piece, LOST.encode())
                lost += piece.size
            else:
                walk.requeued(pool, piece)
                back += piece.size
    del state.held[container]
    told = ["*"] if is_unknown else charged
    op = walk.pools_of.reclaim(
        pool, container, reason=LOST, charged=told, budget=BUDGET, since=since
    )
    assert walk.run(op) == (back, lost)


def _moment(claimed: Claimed) -> int:
    """When the entry was added, in ms of the server's clock."""
    return int(claimed.entry.partition("-")[0])


def _some_moment(walk: Walk, held: dict[Part, Claimed]) -> int:
    """What was put back in line from then on is not charged; 0: everything may be."""
    if not held or walk.random.random() < 0.6:
        return 0
    return _moment(walk.random.choice(list(held.values())))


def _charges(walk: Walk, held: dict[Part, Claimed]) -> dict[Part, int]:
    """Which input of each started entry ran, as its container's record says, right or wrong."""
    started = list(held) if walk.random.random() < 0.3 else list(held)[:1]
    return {
        part: held[part].first + walk.random.randrange(held[part].size + walk.random.randrange(2))
        for part in started
    }


def _pieces(part: Part, charged: int | None, *, is_unknown: bool) -> list[tuple[Part, bool]]:
    """What comes back of an entry, and whether it is charged for the death."""
    if is_unknown or (charged is not None and part.size == 1):
        return [(Part(part.call, index), True) for _, index in part.inputs()]
    if charged is None or not part.first <= charged < part.behind:
        return [(part, False)]
    around = part.cut(part.first, charged) + part.cut(charged + 1, part.behind)
    return [(Part(part.call, charged), True), *((piece, False) for piece in around)]


def _charge(walk: Walk, piece: Part) -> bool:
    """Charge one input for a death; whether that was its last."""
    (one,) = piece.inputs()
    walk.lost[one] = walk.lost.get(one, 0) + 1
    return walk.lost[one] >= BUDGET


def cancel(walk: Walk, pool: str) -> None:
    """Somebody cancels a call."""
    known = [call for call, about in walk.calls.items() if about.pool == pool]
    if known:
        cancel_call(walk, pool, walk.random.choice(known))


def cancel_call(walk: Walk, pool: str, call: str) -> None:
    """Cancel this call, on the server and in the model; what runs may be spared."""
    about, state = walk.calls[call], walk.pools[pool]
    spare = walk.random.random() < 0.3
    running = [
        (container, part, claimed)
        for container, held in state.held.items()
        for part, claimed in held.items()
        if part.call == call and not spare
    ]
    holders = {(container, claimed.entry) for container, _, claimed in running}
    assert set(walk.run(walk.calls_of.cancel(call, spare=spare))) == holders
    assert walk.run(walk.calls_of.cancel(call, spare=spare)) == []
    if about.total is not None and len(about.outcomes) == about.total:
        return
    about.is_cancelled = True
    state.queued = {part for part in state.queued if part.call != call}
    for container, part, claimed in running:
        walk.take(pool, container, part)
        walk.outdated(pool, container, part, claimed)


def bury(walk: Walk, pool: str) -> None:
    """A container cannot process what it was given."""
    container, parts = walk.some_held(pool, 1)
    if not parts:
        return
    claimed = walk.take(pool, container, parts[0])
    walk.outdated(pool, container, parts[0], claimed)
    assert walk.run(walk.pools_of.bury(pool, claimed, reason=BAD))
    assert not walk.run(walk.pools_of.bury(pool, claimed, reason=BAD))
    walk.ended(parts[0], BAD.encode())


def purge(walk: Walk, pool: str) -> None:
    """The pool's app is gone, or its containers cannot start."""
    state = walk.pools[pool]
    if not state.is_active or walk.random.random() < 0.5:
        return
    assert walk.run(walk.pools_of.purge(pool, reason=OVER)) == state.inflight()
    waiting = [*state.queued, *state.delayed]
    state.queued.clear()
    state.delayed.clear()
    for container, held in state.held.items():
        for part, claimed in list(held.items()):
            walk.take(pool, container, part)
            walk.outdated(pool, container, part, claimed)
            waiting.append(part)
    for part in waiting:
        walk.ended(part, OVER.encode())
