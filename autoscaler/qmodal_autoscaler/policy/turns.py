"""Turns: in which order pools that wait for room get it, when some appears."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from qmodal_autoscaler.policy.placement import ContainerRequest


class Turn(NamedTuple):
    """A request whose turn it is, and for how many of its containers."""

    request: ContainerRequest
    containers: int


class _Place(NamedTuple):
    """A pool's place in a line: what it has for its weight, then the number that it drew when it came."""

    share: float
    number: int
    pool: str


@dataclass(slots=True)
class _AppLine:
    """The pools of one app that wait; places that are not valid any more are passed over when they come up.

    Those with many inputs are in a line of their own, and the two lines take turns: else a pool with a large
    backlog would wait for thousands with one input each, and these for it.
    """

    places: dict[str, _Place] = field(default_factory=dict)
    long: set[str] = field(default_factory=set)
    lines: tuple[list[_Place], list[_Place]] = field(default_factory=lambda: ([], []))
    turns: int = 0

    def enter(self, place: _Place, *, is_long: bool) -> None:
        """Put the pool there, wherever it was before."""
        self.leave(place.pool)
        self.places[place.pool] = place
        if is_long:
            self.long.add(place.pool)
        heapq.heappush(self.lines[is_long], place)

    def leave(self, pool: str) -> None:
        """The pool waits no more."""
        self.places.pop(pool, None)
        self.long.discard(pool)

    def pop(self) -> _Place:
        """Remove and return the next place; there is one."""
        heads = [self._head(is_long=False), self._head(is_long=True)]
        found = [each for each in heads if each is not None]
        fewest = min(each.share for each in found)
        first = [each for each in found if each.share == fewest]
        place = first[self.turns % len(first)]
        self.turns += len(first) > 1
        self.leave(place.pool)
        return place

    def _head(self, *, is_long: bool) -> _Place | None:
        line = self.lines[is_long]
        while line and not self._is_valid(line[0], is_long=is_long):
            heapq.heappop(line)
        return line[0] if line else None

    def _is_valid(self, place: _Place, *, is_long: bool) -> bool:
        return self.places.get(place.pool) == place and (place.pool in self.long) == is_long


class TurnQueue:
    """The pools that wait for room.

    The next container goes to the app that has the fewest, and in it to the pool that has the fewest for its
    weight; of equal ones to that which waits longest. A pool that is called keeps its number until it has got
    a container or waits no more, so to be looked at once more costs it no place.
    """

    def __init__(self) -> None:
        self._apps: dict[str, _AppLine] = {}
        self._requests: dict[str, ContainerRequest] = {}
        self._numbers: dict[str, int] = {}
        self._next = itertools.count()

    def __len__(self) -> int:
        return len(self._requests)

    def __contains__(self, pool: str) -> bool:
        return pool in self._requests

    def find(self, pool: str) -> ContainerRequest | None:
        """What the pool waits for."""
        return self._requests.get(pool)

    def enter(self, request: ContainerRequest) -> None:
        """The pool waits for what it requests; in the place that it has, if it waits already."""
        pool = request.pool
        before = self._requests.get(pool)
        if before is not None and before.app != request.app:
            self._remove(pool)
        self._requests[pool] = request
        number = self._numbers.setdefault(pool, next(self._next))
        place = _Place(request.have / request.weight, number, pool)
        line = self._apps.setdefault(request.app, _AppLine())
        if line.places.get(pool) != place or (pool in line.long) != request.is_long:
            line.enter(place, is_long=request.is_long)

    def leave(self, pool: str) -> None:
        """The pool waits no more, and draws another number when it comes again."""
        self._remove(pool)
        self._numbers.pop(pool, None)

    def keep(self, pools: Collection[str]) -> None:
        """Forget all pools but these."""
        for pool in self._numbers.keys() - set(pools):
            self.leave(pool)

    def call(self, count: int, holding: Mapping[str, int]) -> list[Turn]:
        """Remove and return whose turn it is for so many containers; `holding`: how many each app has."""
        granted: Counter[str] = Counter()
        apps = [(holding.get(app, 0), order, app) for order, app in enumerate(self._apps)]
        heapq.heapify(apps)
        called: dict[str, ContainerRequest] = {}
        while apps and count > 0:
            have, order, app = apps[0]
            line = self._apps[app]
            if not line.places:
                heapq.heappop(apps)
                del self._apps[app]
                continue
            heapq.heapreplace(apps, (have + 1, order, app))
            place = line.pop()
            request = called.setdefault(place.pool, self._requests[place.pool])
            granted[place.pool] += 1
            count -= 1
            if granted[place.pool] < request.count:
                share = (request.have + granted[place.pool]) / request.weight
                line.enter(_Place(share, next(self._next), place.pool), is_long=request.is_long)
        for pool in called:
            self._remove(pool)
        return [Turn(request, granted[pool]) for pool, request in called.items()]

    def granted(self, turn: Turn) -> ContainerRequest:
        """The turn as a request that is to be placed; the pool draws another number for what it still waits for."""
        request, count = turn.request, turn.containers
        self.leave(request.pool)
        if request.count > count:
            self.enter(replace(request, have=request.have + count, count=request.count - count))
        return replace(request, count=count)

    def front(self, most: int) -> list[ContainerRequest]:
        """Some of those that have the fewest containers, in about the order of their turns."""
        places = [line.places.values() for line in self._apps.values()]
        first = heapq.nsmallest(most, itertools.chain.from_iterable(places))
        return [self._requests[place.pool] for place in first]

    def _remove(self, pool: str) -> None:
        request = self._requests.pop(pool, None)
        line = None if request is None else self._apps.get(request.app)
        if request is None or line is None:
            return
        line.leave(pool)
        if not line.places:
            del self._apps[request.app]
