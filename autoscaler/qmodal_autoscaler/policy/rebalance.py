"""Rebalancing of full boxes: which containers of other pools make room for pools that wait."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from qmodal_autoscaler.policy.tenure import busy_tenure, is_worth_finishing

# A container that was idle for a shorter time is probably between two inputs.
LENDABLE_IDLE_SECONDS = 1.0
# If no room has appeared for so long, a pool without any container gets that of one that has had its tenure.
STALLED_SECONDS = 2.0


# What a container takes that needs nothing but a place.
A_PLACE: Mapping[str, float] = {"places": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class StarvedPool:
    """A pool that has `have` running containers, and has found no room for `unmet` more.

    `parts`: what one takes of each resource, in the same measure for all pools; where places are all that counts, one of
    them. `cpu`: CPUs that have to come free for one, where nothing else is short.
    """

    pool: str
    have: int
    unmet: int
    app: str = ""
    weight: float = 1.0
    parts: Mapping[str, float] = field(default_factory=lambda: A_PLACE)
    cpu: float = 0.0

    @property
    def unit(self) -> float:
        """What one container takes of the resource of which it takes most."""
        return max(self.parts.values())

    def share(self, more: int = 0) -> float:
        """Its dominant share for its weight, with so many more containers."""
        return (self.have + more) * self.unit / self.weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Donor:
    """A pool with `have` containers: `idle` as (seconds, container), `busy` ones as (seconds since ready, container).

    `floor` of them are never taken away for others. Seconds: `start` is how long one takes to start, `service` how
    long an input, and `remaining` how long what waits in the pool, infinite if more keeps coming; `parts` as
    of StarvedPool, `cpu`: CPUs that one was measured to use.
    """

    pool: str
    have: int
    floor: int = 0
    start: float = 0.0
    service: float | None = None
    remaining: float = math.inf
    app: str = ""
    weight: float = 1.0
    parts: Mapping[str, float] = field(default_factory=lambda: A_PLACE)
    cpu: float = 0.0
    idle: Sequence[tuple[float, str]] = ()
    busy: Sequence[tuple[float, str]] = ()

    @property
    def unit(self) -> float:
        """What one container takes of the resource of which it takes most."""
        return max(self.parts.values())

    def lendable_idle(self) -> list[tuple[float, str]]:
        """The idle ones that may be taken, the one that was idle longest last."""
        return sorted(one for one in self.idle if one[0] >= LENDABLE_IDLE_SECONDS)

    def lendable_busy(self) -> list[tuple[float, str]]:
        """The busy ones that may be taken, after their input, the one that is there longest last."""
        if is_worth_finishing(self.remaining, start=self.start, service=self.service):
            return []
        tenure = busy_tenure(self.start)
        return sorted(one for one in self.busy if one[0] >= tenure)


class Books:
    """What pools and apps have while containers change hands."""

    def __init__(self, starved: Sequence[StarvedPool], donors: Sequence[Donor]) -> None:
        about: dict[str, StarvedPool | Donor] = {each.pool: each for each in donors}
        about.update({each.pool: each for each in starved})
        self.pools: Counter[str] = Counter()
        self._apps: dict[str, dict[str, float]] = {}
        for each in about.values():
            self.count(each, each.have)

    def count(self, pool: StarvedPool | Donor, more: int) -> None:
        """The pool has so many more."""
        self.pools[pool.pool] += more
        app = self._apps.setdefault(pool.app, {})
        for resource, part in pool.parts.items():
            app[resource] = app.get(resource, 0.0) + more * part

    def app(self, app: str) -> float:
        """What the app has of the resource of which it has most."""
        return max(self._apps[app].values())

    def move(self, donor: Donor, to: StarvedPool) -> None:
        """The donor has one less, the other pool one more."""
        self.count(donor, -1)
        self.count(to, 1)

    def is_fairer(self, donor: Donor, to: StarvedPool, *, margin: int) -> bool:
        """Whether the donor has more than the other one, by more than `margin`: its app, or in one app its pool."""
        if donor.app != to.app:
            return self.app(donor.app) > self.app(to.app) + margin * donor.unit
        has, wants = self.pools[donor.pool], self.pools[to.pool]
        return (has - margin) * donor.unit / donor.weight > wants * to.unit / to.weight


def lend(
    starved: Iterable[StarvedPool],
    donors: Sequence[Donor],
    *,
    leaving: int,
    most: int,
    is_stalled: bool = False,
) -> list[str]:
    """At most so many containers that are to end for starved pools, of which those with the fewest come first.

    They come only from pools (or of another app, from apps) that have more than the starved one, idle ones
    first; busy ones, which then take no further input, if it is better off with one more than the other
    without it, or if nothing else has made room (`is_stalled`) for a pool that has none. Room that `leaving`
    containers are about to make is waited for first. A pool that is short of nothing but CPUs gets none of one that
    hardly uses any.
    """
    waiting = sorted(starved, key=StarvedPool.share)
    books = Books(waiting, donors)
    idle = {each.pool: each.lendable_idle() for each in donors}
    busy = {each.pool: each.lendable_busy() for each in donors}
    taken: list[str] = []
    # Apps whose poorest waiting pool found no donor: their other pools would find none either, unless it is only
    # short of CPUs.
    given_up: set[str] = set()
    for to in each_unmet(waiting, leaving, given_up):
        if len(taken) >= most:
            break
        found = _donor(to, donors, books, idle, margin=0)
        if found is None:
            found = _donor(to, donors, books, busy, margin=1)
        if found is None and is_stalled and not books.pools[to.pool]:
            found = _donor(to, donors, books, busy, margin=-1)
        if found is None:
            given_up.add(to.pool if to.cpu else to.app)
            continue
        donor, container = found
        taken.append(container)
        # Who gives gets nothing in the same round: it would take from a third one, and that from a fourth.
        given_up.add(donor.pool)
        books.move(donor, to)
    return taken


def each_unmet(
    waiting: Sequence[StarvedPool], leaving: int, given_up: Collection[str]
) -> Iterator[StarvedPool]:
    """Each pool once for each container that it waits for, the one with the fewest first; without the first `leaving`.

    Pools that are `given_up` meanwhile, or their apps, come no more.
    """
    turns = [(each.share(), n, 0) for n, each in enumerate(waiting) if each.unmet]
    heapq.heapify(turns)
    while turns:
        _, n, got = heapq.heappop(turns)
        to = waiting[n]
        if to.app in given_up or to.pool in given_up:
            continue
        if leaving > 0:
            leaving -= 1
        else:
            yield to
        if got + 1 < to.unmet:
            heapq.heappush(turns, (to.share(got + 1), n, got + 1))


def _donor(
    to: StarvedPool,
    donors: Sequence[Donor],
    books: Books,
    offers: dict[str, list[tuple[float, str]]],
    *,
    margin: int,
) -> tuple[Donor, str] | None:
    """Who gives one of its offers to the starved pool, and which; removed from the offers."""
    able = [
        each
        for each in donors
        if offers[each.pool]
        and each.pool != to.pool
        and books.pools[each.pool] > each.floor
        and each.cpu >= to.cpu / 2
        and books.is_fairer(each, to, margin=margin)
    ]
    if not able:
        return None
    donor = max(
        able, key=lambda each: (books.app(each.app), books.pools[each.pool], offers[each.pool][-1])
    )
    return donor, offers[donor.pool].pop()[1]
