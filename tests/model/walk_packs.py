"""Steps of the random walk that take packs apart, and requests to do so that come too late."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from qmodal.store.entries import Claimed, Ended, Requeued
from qmodal.transport.operation import Command
from tests.model.model import Late, Part, command_of

if TYPE_CHECKING:
    from tests.model.walk import Walk


def split(walk: Walk, pool: str) -> None:
    """A container ends some inputs of a pack, requeues others, and keeps one of them or none."""
    container, part = _splittable(walk, pool)
    if part is None:
        return
    state = walk.pools[pool]
    claimed = walk.take(pool, container, part)
    keep, ended, again = _fates(walk, claimed)
    op = walk.pools_of.split(pool, container, claimed, keep=keep, ended=ended, again=again)
    command = command_of(op)
    token = (claimed.lane, claimed.entry)
    walk.past.append(Late(pool, command, (container, token)))
    assert walk.line.exchange([command])[0] == 1
    if walk.random.random() < 0.3:
        assert walk.line.exchange([command])[0] == int(keep is not None)
    if keep is not None:
        state.held[container][Part(part.call, keep)] = claimed
        state.kept.update([token] if part.size > 1 else [])
    for first, number, outcome in ended:
        walk.ended(Part(part.call, first, number), outcome)
    for first, number, retries, delay in again:
        requeued = Part(part.call, first, number)
        if retries:
            walk.retried(requeued)
        walk.requeued(pool, requeued, delay=delay)


def split_foreign(walk: Walk, pool: str) -> None:
    """A container takes apart what another one holds."""
    container, part = _splittable(walk, pool)
    if part is None:
        return
    claimed = walk.pools[pool].held[container][part]
    assert walk.line.exchange([late_split(walk, pool, "ta-walk-other", claimed)])[0] == 0


def late_split(walk: Walk, pool: str, container: str, claimed: Claimed) -> Command:
    """How a container would take an entry apart that is not its own (any more)."""
    keep, ended, again = _fates(walk, claimed)
    op = walk.pools_of.split(pool, container, claimed, keep=keep, ended=ended, again=again)
    return command_of(op)


def _splittable(walk: Walk, pool: str) -> tuple[str, Part | None]:
    """Something that its container has not taken apart; a pack, if there is one."""
    state = walk.pools[pool]
    found = [
        (container, part)
        for container, held in state.held.items()
        for part, claimed in held.items()
        if (claimed.lane, claimed.entry) not in state.kept
        and part.first not in walk.calls[part.call].blobs
    ]
    packs = [(container, part) for container, part in found if part.size > 1]
    return walk.random.choice(packs or found) if found else ("", None)


def _fates(walk: Walk, claimed: Claimed) -> tuple[int | None, list[Ended], list[Requeued]]:
    """Which input of a pack is kept, and what becomes of the others."""
    whole = Part(claimed.call, claimed.first, claimed.size)
    keep = None
    if walk.random.random() < 0.6:
        keep = walk.random.randrange(whole.first, whole.behind)
    ended, again = list[Ended](), list[Requeued]()
    for part in _runs(walk, whole, keep):
        if walk.random.random() < 0.5:
            ended.append(Ended(part.first, part.size, walk.outcome()))
        else:
            delay = walk.random.choice((0.0, 0.0, 0.001, 0.003))
            again.append(Requeued(part.first, part.size, walk.random.choice((0, 1)), delay))
    return keep, ended, again


def _runs(walk: Walk, whole: Part, keep: int | None) -> Iterator[Part]:
    """All but the kept one, in runs of consecutive inputs."""
    first = whole.first
    while first < whole.behind:
        if first == keep:
            first += 1
            continue
        end = whole.behind if keep is None or keep < first else keep
        behind = min(first + walk.random.randint(1, 3), end)
        yield Part(whole.call, first, behind - first)
        first = behind
