"""Where containers are placed: by places, and by what they need of a box."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from qmodal.spec.needs.gpus import Gpu
from qmodal.spec.needs.needs import Needs
from qmodal.spec.needs.offer import Offer
from qmodal_autoscaler.policy.placement import Placement, Rooms, explain
from qmodal_autoscaler.policy.room import (
    NOTHING,
    AppShares,
    ContainerRequest,
    GpuRoom,
    GpuShare,
    Totals,
    WorkerRoom,
)
from qmodal_autoscaler.policy.turns import TurnQueue


def place(
    requests: Sequence[ContainerRequest], workers: Sequence[WorkerRoom]
) -> list[tuple[str, str]]:
    """Pairs of pool and box, one for each container that finds room."""
    line = TurnQueue()
    for request in requests:
        line.enter(request)
    rooms = Recorded(workers)
    line.call(rooms, AppShares(Totals(100)))
    return [(each.pool, each.worker) for each in rooms.placed]


class Recorded(Rooms):
    """Rooms that remember what was placed, in order."""

    def __init__(self, workers: Sequence[WorkerRoom]) -> None:
        super().__init__(workers)
        self.placed: list[Placement] = []

    def take(self, request: ContainerRequest, have: int) -> Placement | None:
        placement = super().take(request, have)
        if placement is not None:
            self.placed.append(placement)
        return placement


@pytest.mark.parametrize(
    ("requests", "workers", "placed"),
    [
        pytest.param([ContainerRequest(pool="a", count=2)], [], [], id="no worker"),
        pytest.param(
            [ContainerRequest(pool="a", count=3)],
            [WorkerRoom(id="x", free_slots=2)],
            [("a", "x"), ("a", "x")],
            id="what has room",
        ),
        pytest.param(
            [ContainerRequest(pool="a", count=2)],
            [WorkerRoom(id="x", free_slots=3), WorkerRoom(id="y", free_slots=3)],
            [("a", "x"), ("a", "y")],
            id="spread over workers",
        ),
        pytest.param(
            [ContainerRequest(pool="a", count=9), ContainerRequest(pool="b", count=1)],
            [WorkerRoom(id="x", free_slots=3)],
            [("a", "x"), ("b", "x"), ("a", "x")],
            id="turn by turn",
        ),
        pytest.param(
            [ContainerRequest(pool="a", count=9, have=5), ContainerRequest(pool="b", count=9)],
            [WorkerRoom(id="x", free_slots=3)],
            [("b", "x")] * 3,
            id="the pool with the fewest first",
        ),
        pytest.param(
            [ContainerRequest(pool="a", count=1, version="v2")],
            [
                WorkerRoom(id="x", free_slots=3, warm=frozenset({"v1"})),
                WorkerRoom(id="y", free_slots=3, warm=frozenset({"v2"})),
            ],
            [("a", "y")],
            id="a warm worker among equals",
        ),
        pytest.param(
            [ContainerRequest(pool="a", count=1, version="v2")],
            [
                WorkerRoom(id="x", free_slots=4),
                WorkerRoom(id="y", free_slots=3, warm=frozenset({"v2"})),
            ],
            [("a", "x")],
            id="room before warmth",
        ),
    ],
)
def test_placement(
    requests: list[ContainerRequest], workers: list[WorkerRoom], placed: list[tuple[str, str]]
) -> None:
    assert place(requests, workers) == placed


def test_containers_are_placed_ahead_where_no_box_has_room() -> None:
    rooms = [
        WorkerRoom(id="full", free_slots=0, ahead=2),
        WorkerRoom(id="free", free_slots=1, ahead=1),
    ]
    placed = place([ContainerRequest(pool="p", count=5)], rooms)
    assert placed == [("p", "free"), ("p", "full"), ("p", "free"), ("p", "full")]


# --- more than a place ------------------------------------------------------------------------------

GIB = 2**30


def gpus(kind: str, count: int, memory: int = 0, *, at: str = "") -> tuple[Gpu, ...]:
    return tuple(Gpu(uuid=f"GPU-{at}{kind}-{n}", kind=kind, memory=memory) for n in range(count))


def box(
    name: str,
    *has: Gpu,
    slots: int = 16,
    cpus: float = 8.0,
    memory: int = 32 * GIB,
    labels: tuple[str, ...] = (),
    **about: Any,
) -> WorkerRoom:
    """An empty box."""
    return WorkerRoom(
        id=name,
        free_slots=slots,
        offer=Offer(cpus=cpus, memory=memory, gpus=has, labels=labels),
        cpu=cpus,
        memory=memory,
        gpus=tuple(map(GpuRoom, has)),
        **about,
    )


def wants(pool: str = "p", count: int = 1, have: int = 0, **options: Any) -> ContainerRequest:
    """A request of a pool whose function has these options."""
    about = {name: options.pop(name) for name in ("version", "unfit", "app") if name in options}
    needs = Needs.of(**options)
    return ContainerRequest(
        pool=pool, count=count, have=have, needs=needs if needs.is_declared else NOTHING, **about
    )


A100S, L4S = gpus("A100-80GB", 4, 81920), gpus("L4", 2, 23034)


@pytest.mark.parametrize(
    ("request_", "rooms", "worker"),
    [
        pytest.param(wants(gpu="L4"), [box("x", *A100S)], None, id="a GPU of the kind"),
        pytest.param(wants(gpu="A100"), [box("x", *A100S)], "x", id="a kind with its memory"),
        pytest.param(wants(gpu="A100:5"), [box("x", *A100S)], None, id="several on one box"),
        pytest.param(
            wants(gpu="any"), [box("x", *A100S), box("y", *L4S)], "y", id="the least memory"
        ),
        pytest.param(
            wants(gpu=("A100", "L4")),
            [box("y", *L4S), box("x", *A100S)],
            "x",
            id="the best alternative first",
        ),
        pytest.param(
            wants(gpu=("H100", "L4")), [box("y", *L4S), box("x", *A100S)], "y", id="what there is"
        ),
        pytest.param(
            wants(gpu="A100"),
            [box("x", *A100S), box("y", *gpus("A100-80GB", 2, 81920, at="y"))],
            "y",
            id="the box with fewer GPUs left",
        ),
        pytest.param(
            wants(gpu="A100", have=1),
            [box("x", *A100S), box("y", *gpus("A100-80GB", 2, 81920, at="y"), pools={"p": 1})],
            "x",
            id="spread over boxes",
        ),
        pytest.param(wants(cpu=9), [box("x")], None, id="more CPUs than it has"),
        pytest.param(wants(cpu=4), [box("x"), box("y", cpus=4.0)], "y", id="the tightest CPUs"),
        pytest.param(wants(memory=40_000), [box("x")], None, id="more memory than it has"),
        pytest.param(
            wants(region="eu"),
            [box("x", labels=("zone=us",)), box("y", labels=("zone=eu",), slots=1)],
            "y",
            id="a region",
        ),
        pytest.param(wants(region="us"), [box("x", labels=("eu",))], None, id="no such region"),
        pytest.param(
            wants(gpu="L4", unfit=frozenset("y")),
            [box("x", *A100S, *L4S), box("y", *L4S)],
            "x",
            id="an unfit box last",
        ),
        pytest.param(
            wants(gpu="L4", unfit=frozenset("y")), [box("y", *L4S)], "y", id="an unfit box at all"
        ),
        pytest.param(
            wants(cpu=1, version="v2"),
            [box("x"), box("y", warm=frozenset({"v2"}))],
            "y",
            id="a warm one",
        ),
        pytest.param(wants(), [box("x", closed="it is cordoned")], None, id="not a closed one"),
        pytest.param(wants(gpu="L4"), [box("x", *L4S, slots=0, ahead=4)], None, id="not ahead"),
    ],
)
def test_a_container_goes_to_the_box_that_fits_best(
    request_: ContainerRequest, rooms: list[WorkerRoom], worker: str | None
) -> None:
    placed = Rooms(rooms).take(request_, request_.have)
    assert (placed.worker if placed else None) == worker


def test_shares_of_one_size_fill_a_gpu_before_another_one_is_cut() -> None:
    rooms = Rooms([box("x", *gpus("L4", 2))])
    half, third = wants("half", gpu="L4:1/2"), wants("third", gpu="L4:1/3")
    first, second = rooms.take(half, 0), rooms.take(half, 1)
    assert first is not None
    assert second is not None
    assert first.gpus == second.gpus == (GpuShare(gpus("L4", 1)[0], 2),)
    other = rooms.take(third, 0)
    assert other is not None
    assert other.gpus[0].gpu.uuid == "GPU-L4-1"
    assert rooms.take(half, 2) is None
    assert rooms.take(wants(gpu="L4"), 0) is None
    for each in (first, second):
        rooms.release(each)
    assert rooms.take(wants(gpu="L4"), 0) is not None


@pytest.mark.parametrize(
    ("request_", "room", "text"),
    [
        pytest.param(wants(), box("x"), "", id="it fits"),
        pytest.param(wants(), box("x", closed="it is cordoned"), "it is cordoned", id="closed"),
        pytest.param(wants(), box("x", slots=0), "all its places are taken", id="places"),
        pytest.param(
            wants(gpu="H100"),
            box("x", *L4S),
            "it has no GPU H100 (it has L4, L4)",
            id="another kind",
        ),
        pytest.param(
            wants(gpu="L4:2"),
            replace(box("x", *L4S), gpus=(GpuRoom(L4S[0], 1, 1), GpuRoom(L4S[1]))),
            "too few of its GPUs are free: 1 of 2 for L4:2",
            id="GPUs",
        ),
        pytest.param(
            wants(cpu=2),
            replace(box("x"), cpu=0.5),
            "0.5 of its CPUs are free, and 2 are needed",
            id="CPUs",
        ),
        pytest.param(
            wants(memory=1024),
            replace(box("x"), memory=2**20),
            "1 MiB of its memory are free, and 1024 are needed",
            id="memory",
        ),
    ],
)
def test_why_a_container_does_not_fit_now(
    request_: ContainerRequest, room: WorkerRoom, text: str
) -> None:
    assert explain(request_, [room]) == {"x": text}


def test_what_is_kept_for_one_shape_is_no_room_for_another_one() -> None:
    large, small = wants("large", gpu="L4:2"), wants("small", gpu="L4")
    one_taken = replace(box("x", *L4S), gpus=(GpuRoom(L4S[0], 1, 1), GpuRoom(L4S[1])))
    holds = {"x": large.shape}
    assert Rooms([one_taken], holds).take(small, 0) is None
    (text,) = explain(small, [one_taken], holds).values()
    assert text == "what is free there is kept for a container that has waited for long"
    spare = box("x", *gpus("L4", 3))
    rooms = Rooms([spare], holds)
    assert rooms.take(small, 0) is not None
    assert rooms.take(small, 1) is None
    assert rooms.take(large, 0) is not None


def test_a_line_of_what_does_not_fit_holds_up_no_other() -> None:
    rooms = [box("x", *L4S, slots=3)]
    requests = [wants("gpu", 9, gpu="L4:2"), wants("plain", 9), wants("wide", 9, cpu=8)]
    placed = Counter(pool for pool, _ in place(requests, rooms))
    assert placed == {"gpu": 1, "plain": 1, "wide": 1}
    full = replace(rooms[0], gpus=())
    assert Counter(pool for pool, _ in place(requests, [full])) == {"plain": 2, "wide": 1}


def test_a_pool_that_takes_more_of_what_is_scarce_gets_fewer_containers() -> None:
    """The example of the paper on dominant shares: 9 CPUs and 18 GiB; one wants 1 and 4, the other 3 and 1."""
    rooms = [box("x", slots=99, cpus=9.0, memory=18 * GIB)]
    line = TurnQueue()
    line.enter(wants("memory", 99, cpu=1.0, memory=4096, app="a"))
    line.enter(wants("cpu", 99, cpu=3.0, memory=1024, app="b"))
    offers = [each.offer for each in rooms if each.offer]
    turns = line.call(Rooms(rooms), AppShares(Totals(99, offers)))
    assert {each.request.pool: each.containers for each in turns} == {"memory": 3, "cpu": 2}


# --- boxes that take as many as they carry ----------------------------------------------------------


def measured(**about: Any) -> WorkerRoom:
    """A box with two CPUs and 32 places, for which nobody has said how many containers it may run."""
    return replace(box("x", slots=32, cpus=2.0, memory=8 * GIB), is_measured=True, **about)


@pytest.mark.parametrize(
    ("cpu", "memory", "started"),
    [
        pytest.param(None, None, 8, id="nothing is known"),
        pytest.param(1.0, 50 * 2**20, 2, id="CPU-bound"),
        pytest.param(0.4, 50 * 2**20, 5, id="in between"),
        pytest.param(0.01, 50 * 2**20, 32, id="I/O-bound"),
        pytest.param(0.01, GIB, 8, id="much memory"),
        pytest.param(4.0, 50 * 2**20, 1, id="more than the box has"),
    ],
)
def test_a_box_takes_as_many_as_it_carries(
    cpu: float | None, memory: int | None, started: int
) -> None:
    request = ContainerRequest(pool="p", count=60, cpu=cpu, memory=memory)
    assert len(place([request], [measured()])) == started
    fixed = replace(measured(), is_measured=False)
    assert len(place([request], [fixed])) == 32


def test_the_first_container_of_a_pool_waits_for_no_processor() -> None:
    busy = measured(cpu=-6.0)
    assert place([ContainerRequest(pool="new", count=9, cpu=1.0)], [busy]) == [("new", "x")]
    assert place([ContainerRequest(pool="old", count=9, cpu=1.0, have=1)], [busy]) == []
    assert place([wants("declared", cpu=1)], [busy]) == []


def test_what_is_assigned_ahead_is_no_more_than_the_box_carries() -> None:
    full = replace(measured(ahead=16), free_slots=0)
    known = ContainerRequest(pool="p", count=60, cpu=0.5)
    assert len(place([known], [full])) == 4
    assert len(place([known], [replace(full, is_measured=False)])) == 16
    assert place([wants("declared", 9, cpu=0.1)], [full]) == []
