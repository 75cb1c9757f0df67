"""Reservations: boxes that are kept for containers which found no room for long, because smaller ones took it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from qmodal_autoscaler.policy.room import Shape, WorkerRoom

# A request that fits on no box for so long, while others got what it needs out of turn, gets one kept for it.
STARVED_SECONDS = 30.0


class Reservations:
    """Which boxes are kept for which shape, one for each shape and at most half of all boxes; moments in seconds.

    Only for those that are entitled to room: they were passed over, or others have more than their share. A pool that has to wait
    because others have less is not starved.
    """

    def __init__(self) -> None:
        self._since: dict[Shape, float] = {}
        self._entitled: set[Shape] = set()
        self._boxes: dict[Shape, str] = {}

    @property
    def holds(self) -> Mapping[str, Shape]:
        """The boxes that are kept, and for what."""
        return {worker: shape for shape, worker in self._boxes.items()}

    def box(self, shape: Shape) -> str | None:
        """The box that is kept for requests of that shape."""
        return self._boxes.get(shape)

    def waited(self, shape: Shape, now: float) -> float:
        """For how long requests of that shape have waited without that one of them was granted."""
        return now - self._since.get(shape, now)

    def entitle(self, shapes: Iterable[Shape]) -> None:
        """Take in that containers of these shapes are to get room from pools that have more than their share."""
        self._entitled.update(shapes)

    def update(
        self,
        waiting: Iterable[Shape],
        granted: Collection[Shape],
        passed_over: Collection[Shape],
        rooms: Sequence[WorkerRoom],
        now: float,
    ) -> None:
        """Take in which shapes wait, what was granted just now, also to others when it was their turn, and the boxes."""
        shapes = [shape for shape in waiting if not shape.is_plain]
        self._since = {
            shape: now if shape in granted else self._since.get(shape, now) for shape in shapes
        }
        self._entitled |= set(passed_over)
        self._entitled &= self._since.keys() - granted
        open_rooms = {room.id: room for room in rooms if not room.closed}
        self._boxes = {
            shape: worker
            for shape, worker in self._boxes.items()
            if shape in self._entitled
            and worker in open_rooms
            and _could(open_rooms[worker], shape)
        }
        for shape in sorted(self._entitled - self._boxes.keys(), key=self._since.__getitem__):
            if self.waited(shape, now) >= STARVED_SECONDS:
                self._keep(shape, open_rooms)

    def _keep(self, shape: Shape, rooms: Mapping[str, WorkerRoom]) -> None:
        """Keep the box that has most of what the shape needs, of those that are kept for nobody."""
        kept = set(self._boxes.values())
        able = [room for room in rooms.values() if room.id not in kept and _could(room, shape)]
        if able and len(kept) < max(1, len(rooms) // 2):
            self._boxes[shape] = max(able, key=lambda room: (_readiness(room, shape), room.id)).id


def _could(room: WorkerRoom, shape: Shape) -> bool:
    return room.offer is not None and not room.offer.lacks(shape.needs)


def _readiness(room: WorkerRoom, shape: Shape) -> float:
    """How much of what a container of the shape needs the box has free: of what it has least of, at most all of it."""
    needs = shape.needs
    parts = [min(1.0, float(room.free_slots))]
    if needs.cpu:
        parts.append(min(1.0, room.cpu / needs.cpu))
    if needs.memory:
        parts.append(min(1.0, room.memory / needs.memory))
    if needs.gpus:
        free = [
            sum(need.fits(each.gpu) and not each.taken for each in room.gpus) / need.count
            for need in needs.gpus
        ]
        parts.append(min(1.0, max(free)))
    return min(parts)
