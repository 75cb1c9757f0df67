"""Clearing of boxes: which containers make room together for one that needs GPUs, CPUs or memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from qmodal_autoscaler.policy.placement import Lack, Placement, Rooms
from qmodal_autoscaler.policy.rebalance import (
    Books,
    Donor,
    StarvedPool,
    each_unmet,
)
from qmodal_autoscaler.policy.room import ContainerRequest


class _Offered(NamedTuple):
    """A container that could end, which has been idle or ready for so long."""

    is_busy: bool
    seconds: float
    container: str
    donor: Donor
    placement: Placement


class Clearing:
    """Chooses containers that are to end for requests that fit on no box.

    `rooms` are the boxes as they will be when all that leaves already has left, and `placed` what containers take there.
    `only`: boxes that are kept for pools that wait, by pool. `stalled`: pools for which nothing has made room for so long that
    one which has no container gets that of another one. `entitled`: pools for which several have to end after what they run, so
    that a box has to be kept for them first: else others would get what becomes free.
    """

    def __init__(
        self,
        rooms: Rooms,
        placed: Mapping[str, Placement],
        *,
        only: Mapping[str, str],
        stalled: Collection[str],
    ) -> None:
        self._rooms = rooms
        self._placed = placed
        self._only = only
        self._stalled = stalled
        self._on_box: dict[str, list[_Offered]] = {}
        self.entitled: set[str] = set()

    def choose(
        self,
        starved: Mapping[str, tuple[StarvedPool, ContainerRequest]],
        donors: Sequence[Donor],
        *,
        most: int,
    ) -> list[str]:
        """At most so many containers, all that one request needs or none of them."""
        waiting = sorted((each for each, _ in starved.values()), key=StarvedPool.share)
        books = Books(waiting, donors)
        self._on_box = self._offered(donors)
        taken: list[str] = []
        given_up: set[str] = set()
        for to in each_unmet(waiting, 0, ()):
            request = starved[to.pool][1]
            # What is being made free for an earlier one of them is counted as taken.
            if to.pool in given_up:
                continue
            if self._rooms.take(request, books.pools[to.pool]) is not None:
                books.count(to, 1)
                continue
            found = self._cheapest(to, request, books)
            if found is None or len(taken) + len(found) > most or self._is_too_early(to, found):
                given_up.add(to.pool)
                continue
            taken += [each.container for each in found]
            # Who gives gets nothing in the same round: it would take from a third one, and that from a fourth.
            given_up.update(each.donor.pool for each in found)
            self._give(found, to, request, books)
        return taken

    def _is_too_early(self, to: StarvedPool, found: Sequence[_Offered]) -> bool:
        if len(found) < 2 or to.pool in self._only or not any(each.is_busy for each in found):
            return False
        self.entitled.add(to.pool)
        return True

    def _offered(self, donors: Sequence[Donor]) -> dict[str, list[_Offered]]:
        on_box: dict[str, list[_Offered]] = {}
        for donor in donors:
            idle = [(False, *each) for each in donor.lendable_idle()]
            busy = [(True, *each) for each in donor.lendable_busy()]
            for is_busy, seconds, container in (*idle, *busy):
                placement = self._placed.get(container)
                if placement is not None:
                    each = _Offered(is_busy, seconds, container, donor, placement)
                    on_box.setdefault(placement.worker, []).append(each)
        return on_box

    def _cheapest(
        self, to: StarvedPool, request: ContainerRequest, books: Books
    ) -> list[_Offered] | None:
        """What ends on the box where that is the least harm."""
        able = self._rooms.able(request.needs)
        kept = self._only.get(to.pool)
        found = [
            chosen
            for worker in able
            if kept in (None, worker)
            and (chosen := self._on(worker, to, request, books)) is not None
        ]
        return min(found, key=lambda each: _price(each, books), default=None)

    def _on(
        self, worker: str, to: StarvedPool, request: ContainerRequest, books: Books
    ) -> list[_Offered] | None:
        """The containers of that box that make room for one of the pool, none of them without need; None if they do not."""
        gone: list[_Offered] = []
        have = books.pools[to.pool]
        with self._undone(gone, books):
            while lack := self._rooms.lack(worker, request, have):
                able = [
                    each
                    for each in self._on_box.get(worker, ())
                    if each not in gone
                    and _helps(each.placement, lack, request)
                    and self._may(each, to, books)
                ]
                if not able:
                    return None
                self._end(min(able, key=lambda each: _rank(each, books)), gone, books)
            return self._needed(worker, request, gone, have)

    def _needed(
        self, worker: str, request: ContainerRequest, gone: Sequence[_Offered], have: int
    ) -> list[_Offered]:
        """Those without which there would not be room; the dearest one is kept first."""
        needed = list(gone)
        for each in sorted(gone, key=lambda one: (not one.is_busy, one.seconds)):
            self._rooms.change(each.placement, 1)
            if self._rooms.lack(worker, request, have):
                self._rooms.change(each.placement, -1)
            else:
                needed.remove(each)
        for each in gone:
            if each not in needed:
                self._rooms.change(each.placement, -1)
        return needed

    @contextmanager
    def _undone(self, gone: list[_Offered], books: Books) -> Iterator[None]:
        """Everything is as it was afterwards."""
        try:
            yield
        finally:
            for each in gone:
                self._rooms.change(each.placement, 1)
                books.count(each.donor, 1)

    def _end(self, each: _Offered, gone: list[_Offered], books: Books) -> None:
        self._rooms.change(each.placement, -1)
        books.count(each.donor, -1)
        gone.append(each)

    def _may(self, each: _Offered, to: StarvedPool, books: Books) -> bool:
        donor = each.donor
        if donor.pool == to.pool or books.pools[donor.pool] <= donor.floor:
            return False
        if books.is_fairer(donor, to, margin=int(each.is_busy)):
            return True
        is_stalled = to.pool in self._stalled and not books.pools[to.pool]
        return is_stalled and books.is_fairer(donor, to, margin=-1)

    def _give(
        self, found: list[_Offered], to: StarvedPool, request: ContainerRequest, books: Books
    ) -> None:
        for each in found:
            self._end(each, [], books)
            self._on_box[each.placement.worker].remove(each)
        self._rooms.take(request, books.pools[to.pool])
        books.count(to, 1)


def _rank(each: _Offered, books: Books) -> tuple[bool, float, float, float]:
    """Idle ones first, then those of who has most, then who is so for longest."""
    donor = each.donor
    return (
        each.is_busy,
        -books.app(donor.app),
        -books.pools[donor.pool] * donor.unit / donor.weight,
        -each.seconds,
    )


def _price(chosen: Sequence[_Offered], books: Books) -> tuple[object, ...]:
    """The fewest busy ones, then the fewest at all, then those of who has most."""
    busy = sum(each.is_busy for each in chosen)
    return busy, len(chosen), sorted(_rank(each, books) for each in chosen)


def _helps(placement: Placement, lack: Lack, request: ContainerRequest) -> bool:
    """Whether the end of that container is some of what the box has too little of."""
    match lack:
        case "cpu":
            return placement.cpu > 0
        case "memory":
            return placement.memory > 0
        case "gpus":
            return any(need.fits(gpu) for need in request.needs.gpus for gpu, _ in placement.gpus)
        case _:
            return True
