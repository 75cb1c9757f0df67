"""Turns: in which order pools that wait for room get it, when some appears."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from qmodal.spec.needs.needs import Needs
from qmodal_autoscaler.policy.placement import Placement, Rooms
from qmodal_autoscaler.policy.room import AppShares, ContainerRequest, Shape

# Of so many apps it is remembered when they got their last container, also while nothing of them waits.
MOST_APPS = 10_000


class Turn(NamedTuple):
    """A request whose turn it is, and where its containers are placed, which may be fewer than it wants."""

    request: ContainerRequest
    placements: tuple[Placement, ...]

    @property
    def containers(self) -> int:
        """How many containers it gets."""
        return len(self.placements)


class _Place(NamedTuple):
    """A pool's place in a line: what it has for its weight, then the number that it drew when it came."""

    share: float
    number: int
    pool: str


@dataclass(slots=True)
class _Line:
    """The pools of one app and one shape that wait; places that are not valid any more are passed over when they come up.

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

    def first(self) -> _Place:
        """The next place; there is one."""
        heads = self._firsts()
        return heads[self.turns % len(heads)]

    def pop(self) -> None:
        """Remove the next place."""
        heads = self._firsts()
        place = heads[self.turns % len(heads)]
        self.turns += len(heads) > 1
        self.leave(place.pool)

    def _firsts(self) -> list[_Place]:
        heads = [self._head(is_long=False), self._head(is_long=True)]
        found = [each for each in heads if each is not None]
        fewest = min(each.share for each in found)
        return [each for each in found if each.share == fewest]

    def _head(self, *, is_long: bool) -> _Place | None:
        line = self.lines[is_long]
        while line and not self._is_valid(line[0], is_long=is_long):
            heapq.heappop(line)
        return line[0] if line else None

    def _is_valid(self, place: _Place, *, is_long: bool) -> bool:
        return self.places.get(place.pool) == place and (place.pool in self.long) == is_long


class TurnQueue:
    """The pools that wait for room.

    The next container goes to the app that has the smallest dominant share (of equal ones to that which got its last one
    longest ago), and in it to the pool that has the smallest for its weight; of equal ones to that which waits longest. Pools of one shape are in one line, and a line whose
    containers fit on no box holds up no other. A pool that is called keeps its number until it has got a container or
    waits no more, so to be looked at once more costs it no place.
    """

    def __init__(self) -> None:
        self._passed_over: set[Shape] = set()
        self._apps: dict[str, dict[Shape, _Line]] = {}
        self._requests: dict[str, ContainerRequest] = {}
        self._numbers: dict[str, int] = {}
        self._shapes: Counter[Shape] = Counter()
        # When each app got its last container, as a number that grows.
        self._last: dict[str, int] = {}
        self._next = itertools.count()

    def __len__(self) -> int:
        return len(self._requests)

    def __contains__(self, pool: str) -> bool:
        return pool in self._requests

    def find(self, pool: str) -> ContainerRequest | None:
        """What the pool waits for."""
        return self._requests.get(pool)

    @property
    def shapes(self) -> list[Shape]:
        """The shapes of the pools that wait."""
        return list(self._shapes)

    def of_shape(self, shape: Shape) -> list[ContainerRequest]:
        """What the pools of that shape wait for."""
        lines = [lines[shape] for lines in self._apps.values() if shape in lines]
        return [self._requests[pool] for line in lines for pool in line.places]

    def enter(self, request: ContainerRequest) -> None:
        """The pool waits for what it requests; in the place that it has, if it waits already."""
        pool, shape = request.pool, request.shape
        before = self._requests.get(pool)
        if before is not None and (before.app, before.shape) != (request.app, shape):
            self._remove(pool)
            before = None
        self._requests[pool] = request
        if before is None:
            self._shapes[shape] += 1
        number = self._numbers.setdefault(pool, next(self._next))
        place = _Place(request.have / request.weight, number, pool)
        line = self._apps.setdefault(request.app, {}).setdefault(shape, _Line())
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
        if len(self._last) > MOST_APPS:
            self._last = {app: last for app, last in self._last.items() if app in self._apps}

    def call(self, rooms: Rooms, shares: AppShares) -> list[Turn]:
        """Remove and return whose turn it is as long as something fits: it is placed in `rooms`, and counted in `shares`."""
        apps = [(*self._rank(app, shares), order, app) for order, app in enumerate(self._apps)]
        heapq.heapify(apps)
        called: dict[str, tuple[ContainerRequest, list[Placement]]] = {}
        # Shapes that fit on no box any more; a pool's first container may fit where further ones do not.
        closed: set[tuple[Shape, bool]] = set()
        while apps and not rooms.is_full:
            _, _, order, app = apps[0]
            found = self._next_line(app, closed, shares)
            if found is None:
                heapq.heappop(apps)
                continue
            shape, line, place = found
            request, got = called.setdefault(place.pool, (self._requests[place.pool], []))
            placement = rooms.take(request, request.have + len(got))
            if placement is None:
                closed.add((shape, place.share > 0))
                continue
            self._served(line, request, got, placement)
            self._passed_over |= {each for each, _ in closed if _takes_of(placement, each.needs)}
            shares.add(app, request.needs, placement.gpus)
            self._last[app] = next(self._next)
            heapq.heapreplace(apps, (*self._rank(app, shares), order, app))
        for pool, (_, got) in called.items():
            if got:
                self._remove(pool)
        return [Turn(request, tuple(got)) for request, got in called.values() if got]

    def take_passed_over(self) -> set[Shape]:
        """Shapes that fitted on no box when it was their turn, so that others got some of what they need, since this was asked."""
        found, self._passed_over = self._passed_over, set()
        return found

    def _rank(self, app: str, shares: AppShares) -> tuple[float, int]:
        return shares.of(app), self._last.get(app, 0)

    def _next_line(
        self, app: str, closed: Collection[tuple[Shape, bool]], shares: AppShares
    ) -> tuple[Shape, _Line, _Place] | None:
        """The line of the app whose first pool has the smallest share, of those that are not closed."""
        best: tuple[Shape, _Line, _Place] | None = None
        least = (0.0, 0)
        for shape, line in self._apps[app].items():
            if not line.places:
                continue
            place = line.first()
            if (shape, place.share > 0) in closed:
                continue
            key = (place.share * shares.totals.unit(shape.needs), place.number)
            if best is None or key < least:
                best, least = (shape, line, place), key
        return best

    def _served(
        self, line: _Line, request: ContainerRequest, got: list[Placement], placement: Placement
    ) -> None:
        """The first pool of the line has got a container more, and goes behind for what it still wants."""
        line.pop()
        got.append(placement)
        if len(got) < request.count:
            share = (request.have + len(got)) / request.weight
            line.enter(_Place(share, next(self._next), request.pool), is_long=request.is_long)

    def granted(self, turn: Turn) -> ContainerRequest:
        """The turn as a request that is placed; the pool draws another number for what it still waits for."""
        request, count = turn.request, turn.containers
        self.leave(request.pool)
        if request.count > count:
            self.enter(replace(request, have=request.have + count, count=request.count - count))
        return replace(request, count=count)

    def front(self, most: int, *, is_plain: bool | None = None) -> list[ContainerRequest]:
        """Some of those that have the fewest containers, in about the order of their turns.

        `is_plain`: only those that ask for nothing but a place, or only the others.
        """
        places = [
            line.places.values()
            for lines in self._apps.values()
            for shape, line in lines.items()
            if is_plain is None or shape.is_plain == is_plain
        ]
        first = heapq.nsmallest(most, itertools.chain.from_iterable(places))
        return [self._requests[place.pool] for place in first]

    def wanted(self) -> Iterator[tuple[Needs, int]]:
        """What each pool needs, and how many containers it waits for."""
        return ((each.needs, each.count) for each in self._requests.values())

    def _remove(self, pool: str) -> None:
        request = self._requests.pop(pool, None)
        if request is None:
            return
        shape = request.shape
        self._shapes[shape] -= 1
        if not self._shapes[shape]:
            del self._shapes[shape]
        lines = self._apps.get(request.app, {})
        line = lines.get(shape)
        if line is None:
            return
        line.leave(pool)
        if not line.places:
            del lines[shape]
        if not lines:
            del self._apps[request.app]


def _takes_of(placement: Placement, needs: Needs) -> bool:
    """Whether a container takes something that those with these needs have to have free."""
    if (needs.cpu and placement.cpu) or (needs.memory and placement.memory):
        return True
    return any(need.fits(gpu) for need in needs.gpus for gpu, _ in placement.gpus)
