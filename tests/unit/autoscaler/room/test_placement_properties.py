"""What holds of every placement, whatever boxes and requests there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings as runs, strategies as st

from qmodal.spec.needs.gpus import Gpu, GpuNeed
from qmodal.spec.needs.needs import Needs
from qmodal.spec.needs.offer import Offer
from qmodal_autoscaler.policy.placement import Placement, Rooms, explain
from qmodal_autoscaler.policy.room import (
    NOTHING,
    AppShares,
    ContainerRequest,
    GpuRoom,
    Totals,
    WorkerRoom,
)
from qmodal_autoscaler.policy.turns import TurnQueue

# Pools that were measured to use about as much as each other are taken for equal; here they are, or take twice as much.
UNIT = 64 * 2**20
KINDS = ["L4", "A100-40GB", "A100-80GB"]
MEMORY = {"L4": 23, "A100-40GB": 40, "A100-80GB": 80}


@st.composite
def boxes(draw: st.DrawFn) -> list[WorkerRoom]:
    found = []
    for number in range(draw(st.integers(1, 3))):
        kinds = draw(st.lists(st.sampled_from(KINDS), max_size=4))
        has = tuple(
            Gpu(uuid=f"GPU-{number}-{n}", kind=kind, memory=MEMORY[kind])
            for n, kind in enumerate(kinds)
        )
        cpus, memory = draw(st.integers(1, 8)), draw(st.integers(1, 16)) * UNIT
        labels = draw(st.sampled_from([(), ("eu",)]))
        found.append(
            WorkerRoom(
                id=f"box-{number}",
                free_slots=draw(st.integers(0, 6)),
                offer=Offer(cpus=float(cpus), memory=memory, gpus=has, labels=labels),
                cpu=float(cpus),
                memory=float(memory),
                gpus=tuple(map(GpuRoom, has)),
                is_measured=draw(st.booleans()),
                closed=draw(st.sampled_from(["", "", "", "it is cordoned"])),
            )
        )
    return found


gpu_needs = st.one_of(
    st.builds(GpuNeed, kind=st.sampled_from(["L4", "A100", "ANY"]), count=st.integers(1, 3)),
    st.builds(GpuNeed, kind=st.sampled_from(["L4", "ANY"]), shares=st.integers(2, 3)),
)
needs = st.builds(
    Needs,
    cpu=st.none() | st.sampled_from([0.5, 1.0, 3.0]),
    memory=st.none() | st.integers(1, 6).map(UNIT.__mul__),
    gpus=st.lists(gpu_needs, max_size=2).map(tuple),
    regions=st.sampled_from([(), (), ("eu",)]),
)


@st.composite
def requests(draw: st.DrawFn) -> list[ContainerRequest]:
    found = []
    for number in range(draw(st.integers(1, 5))):
        what = draw(st.just(NOTHING) | needs)
        found.append(
            ContainerRequest(
                pool=f"p{number}",
                count=draw(st.integers(1, 5)),
                have=draw(st.integers(0, 2)),
                app=draw(st.sampled_from("ab")),
                weight=draw(st.sampled_from([1.0, 2.0])),
                needs=what if what.is_declared else NOTHING,
                cpu=draw(st.none() | st.sampled_from([1 / 64, 0.5])),
                memory=draw(st.none() | st.sampled_from([UNIT, 4 * UNIT])),
            )
        )
    return found


def totals(rooms: Sequence[WorkerRoom]) -> Totals:
    return Totals(sum(each.free_slots for each in rooms), [r.offer for r in rooms if r.offer])


def place(
    wanted: Sequence[ContainerRequest], rooms: Sequence[WorkerRoom]
) -> tuple[TurnQueue, Rooms, list[Placement]]:
    line, filled = TurnQueue(), Rooms(rooms)
    for each in wanted:
        line.enter(each)
    turns = line.call(filled, AppShares(totals(rooms)))
    for turn in turns:
        line.granted(turn)
    return line, filled, [each for turn in turns for each in turn.placements]


@runs(deadline=None, max_examples=50)
@given(boxes(), requests())
def test_nothing_is_placed_beyond_what_a_box_offers_and_no_gpu_twice(
    rooms: list[WorkerRoom], wanted: list[ContainerRequest]
) -> None:
    _, _, placed = place(wanted, rooms)
    by_pool = {each.pool: each for each in wanted}
    for room in rooms:
        here = [each for each in placed if each.worker == room.id]
        assert room.offer is not None
        assert not (here and room.closed)
        assert len(here) <= room.free_slots
        declared = [by_pool[each.pool].needs for each in here]
        assert sum(each.cpu or 0.0 for each in declared) <= room.offer.cpus + 1e-6
        assert sum(each.memory or 0 for each in declared) <= room.offer.memory
        assert not any(room.offer.lacks(each) for each in declared)
        _check_gpus(here, room, by_pool)
        if room.is_measured:
            # Declared or measured; only the first container of a pool that declares nothing may go beyond.
            assert sum(each.memory for each in here) <= room.offer.memory + 1e-6
            firsts = [each for each in here if by_pool[each.pool].needs.cpu is None]
            beyond = sum({each.pool: each.cpu for each in firsts}.values())
            assert sum(each.cpu for each in here) - beyond <= room.offer.cpus + 1e-6


def _check_gpus(
    here: Sequence[Placement], room: WorkerRoom, by_pool: dict[str, ContainerRequest]
) -> None:
    cuts: dict[str, set[int]] = {}
    taken: Counter[str] = Counter()
    for each in here:
        assert len({share.gpu.uuid for share in each.gpus}) == len(each.gpus)
        if by_pool[each.pool].needs.gpus:
            assert any(
                need.count == len(each.gpus)
                and all(need.fits(gpu) and need.shares == shares for gpu, shares in each.gpus)
                for need in by_pool[each.pool].needs.gpus
            )
        for gpu, shares in each.gpus:
            cuts.setdefault(gpu.uuid, set()).add(shares)
            taken[gpu.uuid] += 1
    own = {each.gpu.uuid for each in room.gpus}
    for uuid, cut in cuts.items():
        assert uuid in own
        assert taken[uuid] <= min(cut) == max(cut)


@runs(deadline=None, max_examples=50)
@given(boxes(), requests())
def test_whatever_fits_somewhere_is_placed_and_the_rest_is_explained(
    rooms: list[WorkerRoom], wanted: list[ContainerRequest]
) -> None:
    line, filled, placed = place(wanted, rooms)
    got = Counter(each.pool for each in placed)
    for each in wanted:
        rest = line.find(each.pool)
        assert (rest.count if rest else 0) == each.count - got[each.pool]
        if rest is not None:
            assert filled.take(rest, rest.have) is None
        reasons = explain(each, rooms)
        assert reasons.keys() == {room.id for room in rooms}
        fits = {room.id for room in rooms if Rooms([room]).take(each, each.have)}
        assert {worker for worker, why in reasons.items() if not why} == fits


@runs(deadline=None, max_examples=50)
@given(boxes(), requests(), requests())
def test_what_is_given_back_leaves_the_boxes_as_they_were(
    rooms: list[WorkerRoom], wanted: list[ContainerRequest], others: list[ContainerRequest]
) -> None:
    filled = Rooms(rooms)
    placed = [(each, filled.take(each, each.have)) for each in wanted]
    for _, placement in reversed(placed):
        if placement is not None:
            filled.release(placement)
    fresh = Rooms(rooms)
    assert filled.free == fresh.free
    for each in others:
        assert filled.take(each, each.have) == fresh.take(each, each.have)


@runs(deadline=None, max_examples=50)
@given(boxes(), requests(), st.data())
def test_nothing_takes_what_is_kept_for_a_request(
    rooms: list[WorkerRoom], wanted: list[ContainerRequest], data: st.DataObject
) -> None:
    """On a box that is kept for a request that fits there, it still fits after all the others were placed."""
    kept, *others = wanted
    fits = [room for room in rooms if not kept.is_plain and Rooms([room]).take(kept, kept.have)]
    if not fits:
        return
    room = data.draw(st.sampled_from(fits))
    filled = Rooms([room], {room.id: kept.shape})
    for each in others:
        if each.shape != kept.shape:
            for n in range(each.count):
                filled.take(each, each.have + n)
    assert filled.take(kept, kept.have) is not None


@runs(deadline=None, max_examples=50)
@given(
    st.lists(
        st.builds(
            Needs,
            cpu=st.sampled_from([1.0, 2.0, 3.0, 7.0]),
            memory=st.sampled_from([1, 2, 5, 9]),
            gpus=st.sampled_from([(), (GpuNeed(kind="L4"),), (GpuNeed(kind="L4", count=2),)]),
        ),
        min_size=2,
        max_size=4,
    )
)
def test_no_pool_would_rather_have_what_another_one_has(wanted: list[Needs]) -> None:
    """Dominant-resource fairness on one box, as exactly as whole containers allow."""
    gpus = tuple(Gpu(uuid=f"GPU-{n}", kind="L4") for n in range(8))
    offer = Offer(cpus=48.0, memory=64, gpus=gpus)
    room = WorkerRoom(
        id="x",
        free_slots=500,
        offer=offer,
        cpu=offer.cpus,
        memory=float(offer.memory),
        gpus=tuple(map(GpuRoom, gpus)),
    )
    asked = [
        ContainerRequest(pool=f"p{n}", count=500, app=f"a{n}", needs=each)
        for n, each in enumerate(wanted)
    ]
    _, _, placed = place(asked, [room])
    have = Counter(each.pool for each in placed)
    for mine in asked:
        for other in asked:
            bundle = _amounts(other.needs, have[other.pool] - 1)
            each = _amounts(mine.needs, 1)
            could_run = min(bundle[name] / amount for name, amount in each.items() if amount)
            assert could_run <= have[mine.pool] + 1


def _amounts(needs: Needs, count: int) -> dict[str, float]:
    gpus = sum(each.count for each in needs.gpus)
    return {
        "cpu": count * (needs.cpu or 0),
        "memory": count * (needs.memory or 0),
        "gpus": count * float(gpus),
    }


@runs(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 6),
            st.integers(0, 3),
            st.sampled_from("abc"),
            st.sampled_from([1.0, 2.0, 0.5]),
        ),
        max_size=8,
    ),
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=4),
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)),
)
def test_pools_that_need_nothing_but_a_place_get_it_as_by_places_alone(
    asked: list[tuple[int, int, str, float]],
    slots: list[tuple[int, bool]],
    holding: tuple[int, int, int],
) -> None:
    wanted = [
        ContainerRequest(pool=f"p{n}", count=count, have=have, app=app, weight=weight, version="v")
        for n, (count, have, app, weight) in enumerate(asked)
    ]
    rooms = [
        WorkerRoom(id=f"b{n}", free_slots=free, warm=frozenset("v" if is_warm else ""))
        for n, (free, is_warm) in enumerate(slots)
    ]
    line, filled = TurnQueue(), Rooms(rooms)
    for each in wanted:
        line.enter(each)
    shares = AppShares(Totals(40))
    for app, count in zip("abc", holding, strict=True):
        shares.add(app, NOTHING, count=count)
    turns = line.call(filled, shares)
    got = {turn.request.pool: [each.worker for each in turn.placements] for turn in turns}
    assert got == _by_places(wanted, rooms, dict(zip("abc", holding, strict=True)))


def _by_places(
    wanted: list[ContainerRequest], rooms: list[WorkerRoom], apps: dict[str, int]
) -> dict[str, list[str]]:
    """The rule, word by word: the app that has the fewest, in it the pool that has the fewest for its weight.

    Of equal apps it is that which got its last one longest ago, of equal pools that which waits longest.
    """
    free = {room.id: room.free_slots for room in rooms if room.free_slots}
    warm = {room.id for room in rooms if room.warm}
    order = {app: (-1, n) for n, app in enumerate(dict.fromkeys(each.app for each in wanted))}
    # What each pool has, and its number in the line.
    left = {each.pool: (each.have, n, each) for n, each in enumerate(wanted)}
    got: dict[str, list[str]] = {}
    for number in range(1000):
        if not (left and free):
            break
        app = min({e.app for _, _, e in left.values()}, key=lambda a: (apps[a], order[a]))
        of_app = [entry for entry in left.values() if entry[2].app == app]
        have, _, request = min(of_app, key=lambda entry: (entry[0] / entry[2].weight, entry[1]))
        box = min(free, key=lambda name: (-free[name], name not in warm, name))
        got.setdefault(request.pool, []).append(box)
        apps[app] += 1
        order[app] = number, 0
        free = {name: n - (name == box) for name, n in free.items() if n - (name == box)}
        if len(got[request.pool]) < request.count:
            left[request.pool] = (have + 1, len(wanted) + number, request)
        else:
            del left[request.pool]
    return got
