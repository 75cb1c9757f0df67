"""Why boxes take no container of a pool, in one line: from what no box will ever do to what is taken just now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from qmodal.spec.needs.needs import Needs
from qmodal.spec.needs.offer import Offer, each_lack, some_of
from qmodal.store.watch.reasons import Reason
from qmodal_autoscaler.policy.placement import Rooms, explain
from qmodal_autoscaler.policy.room import ContainerRequest, Shape, WorkerRoom


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxView:
    """A box that a pool may wait for. `name`: as people know it. `is_avoided`: it did not start what it was assigned."""

    worker: str
    name: str
    offer: Offer
    is_cordoned: bool = False
    is_avoided: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """The boxes, what is left of each, and what is kept there for others; and how many containers run on how many places."""

    boxes: Sequence[BoxView] = ()
    rooms: Sequence[WorkerRoom] = ()
    holds: Mapping[str, Shape] = field(default_factory=dict)
    running: int = 0
    places: int = 0


def lacking(request: ContainerRequest, ground: Ground) -> Reason:
    """Why no box takes a container of a pool that is in line: the first that holds."""
    needs, boxes = request.needs, ground.boxes
    able = [box for box in boxes if not box.offer.lacks(needs)]
    is_open = [box for box in able if not box.is_cordoned]
    if boxes and not able:
        offers = ((box.name, box.offer.lacks(needs)) for box in boxes)
        return Reason.of("impossible", boxes=each_lack(offers))
    if able and all(box.worker in request.unfit for box in able):
        return Reason.of("python", boxes=_names(able))
    if able and not is_open:
        return Reason.of("cordoned", boxes=_names(able))
    if is_open and all(box.is_avoided for box in is_open):
        return Reason.of("silent", boxes=_names(is_open))
    return _taken(request, ground, is_open)


def _taken(request: ContainerRequest, ground: Ground, boxes: Sequence[BoxView]) -> Reason:
    """What of these boxes is taken."""
    everything = f"{ground.running} of {ground.places} containers run"
    if request.is_plain and not any(room.is_measured for room in ground.rooms):
        return Reason.of("room", detail=everything)
    rooms, open_now = Rooms(ground.rooms, ground.holds), set[str]()
    open_now.update(rooms.able(request.needs))
    lacks = {
        box: rooms.lack(box.worker, request, request.have)
        for box in boxes
        if box.worker in open_now
    }
    if lacks and all(lack == "gpus" for lack in lacks.values()):
        return Reason.of("gpu", gpus=_gpus(request.needs), boxes=_names([*lacks]))
    if all(lack == "places" for lack in lacks.values()):
        return Reason.of("room", detail=everything)
    why = explain(request, ground.rooms, ground.holds)
    said = [(box.name, why[box.worker]) for box in lacks if why[box.worker]]
    return Reason.of("room", detail=each_lack(said)) if said else Reason.of("placing")


def _gpus(needs: Needs) -> str:
    return " or ".join(map(str, needs.gpus))


def _names(boxes: Iterable[BoxView]) -> str:
    return some_of([box.name for box in boxes], ", ")
