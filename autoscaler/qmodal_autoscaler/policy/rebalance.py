"""Rebalancing of full boxes: which containers of other pools make room for a pool that waits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# A container that was idle for a shorter time is probably between two inputs.
LENDABLE_IDLE_SECONDS = 1.0
# A pool without any container gets a busy one of another pool after this, once its input has ended.
STARVED_SECONDS = 30.0


@dataclass(slots=True, kw_only=True)
class StarvedPool:
    """A pool that has `have` containers, needs `unmet` more, and has found no room for `seconds`."""

    pool: str
    have: int
    unmet: int
    seconds: float = 0.0


@dataclass(slots=True, kw_only=True)
class Donor:
    """A pool with containers: `idle` as (seconds, container), `busy` ones by name.

    `floor` of them are never taken away for others.
    """

    pool: str
    have: int
    floor: int = 0
    idle: Sequence[tuple[float, str]] = ()
    busy: Sequence[str] = ()


def lend(starved: Iterable[StarvedPool], donors: Sequence[Donor], *, leaving: int) -> list[str]:
    """The containers to take away for starved pools, of which those with the fewest come first.

    They come only from pools that have more than the starved one, idle ones first; room that `leaving`
    containers are about to make is waited for first.
    """
    idle = {each.pool: _idle(each) for each in donors}
    have = {each.pool: each.have for each in donors}
    taken: list[str] = []
    for pool in sorted(starved, key=lambda each: each.have):
        wanted = max(0, pool.unmet - leaving)
        leaving = max(0, leaving - pool.unmet)
        for got in range(wanted):
            able = [
                each
                for each in donors
                if idle[each.pool]
                and each.pool != pool.pool
                and have[each.pool] > max(each.floor, pool.have + got)
            ]
            if not able:
                taken += _from_busy(pool, donors, got)
                break
            donor = max(able, key=lambda each: (have[each.pool], idle[each.pool][-1]))
            taken.append(idle[donor.pool].pop()[1])
            have[donor.pool] -= 1
    return taken


def _idle(donor: Donor) -> list[tuple[float, str]]:
    return sorted(each for each in donor.idle if each[0] >= LENDABLE_IDLE_SECONDS)


def _from_busy(pool: StarvedPool, donors: Sequence[Donor], got: int) -> list[str]:
    if pool.have or got or pool.seconds < STARVED_SECONDS:
        return []
    able = [each for each in donors if each.busy and each.have > max(1, each.floor)]
    return [max(able, key=lambda each: each.have).busy[0]] if able else []
