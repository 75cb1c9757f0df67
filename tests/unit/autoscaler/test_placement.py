"""Where containers are placed: by places, and by what they need of a box."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from qmodal_autoscaler.policy.placement import Placement, Rooms
from qmodal_autoscaler.policy.room import ContainerRequest, WorkerRoom
from qmodal_autoscaler.policy.shares import AppShares, Totals
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
