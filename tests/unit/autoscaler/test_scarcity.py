"""Few GPUs and many pools: whose turn it is, what is kept for whom, and which containers make room."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from qmodal.spec.needs.gpus import Gpu
from qmodal.spec.needs.needs import Needs
from qmodal.spec.needs.offer import Offer
from qmodal_autoscaler.policy.clearing import Clearing
from qmodal_autoscaler.policy.placement import Placement, Rooms
from qmodal_autoscaler.policy.rebalance import STALLED_SECONDS, Donor, StarvedPool
from qmodal_autoscaler.policy.reservations import STARVED_SECONDS, Reservations
from qmodal_autoscaler.policy.room import AppShares, ContainerRequest, GpuRoom, Totals, WorkerRoom
from qmodal_autoscaler.policy.turns import TurnQueue

TICK_SECONDS = 0.5
START_SECONDS = 0.1


def box(name: str, *, l4s: int = 8, a100s: int = 0, cpus: float = 64.0) -> WorkerRoom:
    """An empty box."""
    has = tuple(
        Gpu(uuid=f"GPU-{name}-{kind}-{n}", kind=kind, memory=1)
        for kind, count in (("L4", l4s), ("A100", a100s))
        for n in range(count)
    )
    return WorkerRoom(
        id=name,
        free_slots=32,
        offer=Offer(cpus=cpus, memory=2**40, gpus=has),
        cpu=cpus,
        memory=2.0**40,
        gpus=tuple(map(GpuRoom, has)),
    )


@dataclass(frozen=True, kw_only=True)
class Pool:
    """A pool with inputs that never end: so many containers are wanted, each input takes `service` seconds."""

    needs: Needs
    wants: int = 20
    service: float = 1.0
    app: str = "a"
    weight: float = 1.0


@dataclass
class Running:
    """A container that runs one input after the other."""

    placement: Placement
    since: float
    until: float
    is_leaving: bool = False


@dataclass
class Fleet:
    """The shipped rules of sharing on made-up boxes, with a clock of their own; `had`: seconds of containers by pool."""

    boxes: list[WorkerRoom]
    pools: Mapping[str, Pool]
    now: float = 0.0
    line: TurnQueue = field(default_factory=TurnQueue)
    kept: Reservations = field(default_factory=Reservations)
    running: dict[str, Running] = field(default_factory=dict)
    had: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    first: dict[str, float] = field(default_factory=dict)
    ids: itertools.count[int] = field(default_factory=itertools.count)
    totals: Totals = field(init=False)

    def __post_init__(self) -> None:
        offers = [each.offer for each in self.boxes if each.offer]
        self.totals = Totals(32 * len(self.boxes), offers)

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        ends = self.now + seconds
        while self.now < ends:
            self._inputs_end()
            self._enter()
            self._place()
            self._make_room()
            for each in self.running.values():
                self.had[each.placement.pool] += TICK_SECONDS
            self.now += TICK_SECONDS

    def have(self, pool: str) -> int:
        return sum(each.placement.pool == pool for each in self.running.values())

    def rooms(self, *, soon: bool = False) -> Rooms:
        rooms = Rooms(self.boxes, self.kept.holds)
        for each in self.running.values():
            if not (soon and each.is_leaving):
                rooms.change(each.placement, 1)
        return rooms

    def _inputs_end(self) -> None:
        for name, each in list(self.running.items()):
            if each.until <= self.now:
                each.until += self.pools[each.placement.pool].service
                if each.is_leaving:
                    del self.running[name]

    def _enter(self) -> None:
        for name, pool in self.pools.items():
            staying = [e for e in self.running.values() if e.placement.pool == name]
            count = pool.wants - sum(not each.is_leaving for each in staying)
            if count > 0:
                self.line.enter(
                    ContainerRequest(
                        pool=name,
                        count=count,
                        have=len(staying),
                        needs=pool.needs,
                        app=pool.app,
                        weight=pool.weight,
                    )
                )
            else:
                self.line.leave(name)

    def _place(self) -> None:
        shares = AppShares(self.totals)
        for each in self.running.values():
            pool = self.pools[each.placement.pool]
            shares.add(pool.app, pool.needs, each.placement.gpus)
        turns = self.line.call(self.rooms(), shares)
        for turn in turns:
            self.line.granted(turn)
            for placement in turn.placements:
                since = self.now + START_SECONDS
                until = since + self.pools[placement.pool].service
                self.running[f"c{next(self.ids)}"] = Running(placement, since, until)
                self.first.setdefault(placement.pool, self.now)
        shapes = {turn.request.shape for turn in turns}
        self.kept.update(
            self.line.shapes, shapes, self.line.take_passed_over(), self.boxes, self.now
        )

    def _make_room(self) -> None:
        requests = self.line.front(64, is_plain=False)
        placed = {name: each.placement for name, each in self.running.items()}
        kept = {each.pool: self.kept.box(each.shape) for each in requests}
        clearing = Clearing(
            self.rooms(soon=True),
            placed,
            only={pool: worker for pool, worker in kept.items() if worker is not None},
            stalled={
                each.pool
                for each in requests
                if self.kept.waited(each.shape, self.now) > STALLED_SECONDS
            },
        )
        starved = {
            each.pool: (
                StarvedPool(
                    pool=each.pool,
                    have=each.have,
                    unmet=each.count,
                    app=each.app,
                    weight=each.weight,
                    parts=self.totals.parts(each.needs, self.totals.likely(each.needs)),
                ),
                each,
            )
            for each in requests
        }
        for name in clearing.choose(starved, self._donors(), most=16):
            self.running[name].is_leaving = True
        self.kept.entitle(each.shape for each in requests if each.pool in clearing.entitled)

    def _donors(self) -> list[Donor]:
        donors = []
        for name, pool in self.pools.items():
            ready = [
                (key, each)
                for key, each in self.running.items()
                if each.placement.pool == name and not each.is_leaving and each.since <= self.now
            ]
            donors.append(
                Donor(
                    pool=name,
                    have=len(ready),
                    start=START_SECONDS,
                    app=pool.app,
                    weight=pool.weight,
                    parts=self.totals.parts(pool.needs, self.totals.likely(pool.needs)),
                    busy=[(self.now - each.since, key) for key, each in ready],
                )
            )
        return donors


def jain(values: list[float]) -> float:
    return sum(values) ** 2 / (len(values) * sum(each**2 for each in values))


@pytest.mark.parametrize("apps", [1, 5, 10])
@pytest.mark.parametrize("service", [0.5, 3.0])
def test_ten_pools_that_want_twenty_of_eight_gpus_share_them(apps: int, service: float) -> None:
    pools = {
        f"p{n}": Pool(needs=Needs.of(gpu="L4"), wants=2, service=service, app=f"a{n % apps}")
        for n in range(10)
    }
    fleet = Fleet([box("x", l4s=4), box("y", l4s=4)], pools)
    fleet.run(60)
    assert jain([fleet.had[name] for name in pools]) >= 0.95
    assert sum(fleet.had.values()) >= 0.9 * 8 * 60


def test_pools_get_gpus_by_their_weight_whatever_one_container_takes() -> None:
    pools = {
        "one": Pool(needs=Needs.of(gpu="L4")),
        "two": Pool(needs=Needs.of(gpu="L4:2")),
        "light": Pool(needs=Needs.of(gpu="any"), weight=0.5),
    }
    fleet = Fleet([box("x", l4s=20)], pools)
    fleet.run(20)
    gpus = {"one": fleet.have("one"), "two": 2 * fleet.have("two"), "light": fleet.have("light")}
    assert gpus == {"one": 8, "two": 8, "light": 4}


def test_a_container_that_needs_several_gpus_is_not_starved_by_small_ones_nor_they_by_it() -> None:
    pools = {f"small{n}": Pool(needs=Needs.of(gpu="L4"), service=3.0 + n) for n in range(6)}
    pools["large"] = Pool(needs=Needs.of(gpu="L4:6"), service=10.0)
    fleet = Fleet([box("x")], pools)
    # All GPUs are taken before the large one comes.
    fleet.pools = {name: each for name, each in pools.items() if name != "large"}
    fleet.run(5)
    fleet.pools = pools
    fleet.run(115)
    # It waits until the rules say that it is its turn, and for what runs to end.
    assert fleet.first["large"] - 5 < STARVED_SECONDS + 10
    assert fleet.had["large"] >= 20
    assert all(fleet.had[f"small{n}"] >= 30 for n in range(6))


def test_what_is_passed_over_for_long_gets_a_box_kept_until_it_is_served() -> None:
    kept, large, small = Reservations(), wants("L4:8").shape, wants("L4").shape
    boxes = [box("x"), box("y", l4s=0), replace(box("z"), closed="it is cordoned")]
    kept.update([large, small], [small], [large], boxes, 0.0)
    kept.update([large, small], [], [], boxes, STARVED_SECONDS - 1)
    assert kept.holds == {}
    kept.update([large, small], [], [], boxes, STARVED_SECONDS)
    assert kept.holds == {"x": large}
    for over in (
        ([large], [large], boxes),
        ([], [], boxes),
        ([large], [], boxes[1:]),
        ([large], [], [replace(boxes[0], closed="it is cordoned")]),
    ):
        again = Reservations()
        again.update([large], [], [large], boxes, 0.0)
        again.update([large], [], [], boxes, 40.0)
        assert again.box(large) == "x"
        waiting, granted, rooms = over
        again.update(waiting, granted, [], rooms, 41.0)
        assert again.holds == {}


def wants(gpu: str) -> ContainerRequest:
    return ContainerRequest(pool="p", count=1, needs=Needs.of(gpu=gpu))


def test_who_waits_because_others_have_less_gets_no_box() -> None:
    kept, large = Reservations(), wants("L4:8").shape
    kept.update([large], [], [], [box("x")], 0.0)
    kept.update([large], [], [], [box("x")], 100.0)
    assert kept.holds == {}
