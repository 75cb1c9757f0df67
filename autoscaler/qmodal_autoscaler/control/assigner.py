"""Writes assignments: places new containers on boxes and takes others off, fenced by the epoch."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field

from qmodal.store.fleet import Fleet
from qmodal.transport.operation import Op
from qmodal.transport.sharing.gather import gather
from qmodal.wire.ids import container_id
from qmodal_autoscaler.change_log import ChangeLog
from qmodal_autoscaler.cluster.nodes import Nodes, PlacedContainer
from qmodal_autoscaler.control.judgement import Judgement
from qmodal_autoscaler.policy.placement import Placement

# Container ids that one leadership may give; the serials of the next one begin above them.
SERIALS_PER_EPOCH = 10**9


class LeadershipLostError(Exception):
    """Raised when a write is refused because another autoscaler leads."""


@dataclass(slots=True)
class AssignmentChanges:
    """What a round changes on the boxes: containers to take off, and those that are placed."""

    off: dict[str, PlacedContainer] = field(default_factory=dict)
    placements: list[Placement] = field(default_factory=list)

    def add(self, judgement: Judgement) -> None:
        """Include what follows from a look at one pool."""
        for placed in judgement.take_off:
            self.take_off(placed)

    def take_off(self, placed: PlacedContainer) -> None:
        """Include that the container should not run any more."""
        if placed.is_assigned:
            self.off[placed.container] = placed


class Assigner:
    """Writes the changes of one leadership."""

    def __init__(self, fleet: Fleet, nodes: Nodes, epoch: int, change_log: ChangeLog) -> None:
        self._fleet = fleet
        self._nodes = nodes
        self._change_log = change_log
        self._epoch = epoch
        self._serials = itertools.count(epoch * SERIALS_PER_EPOCH)
        self._is_superseded = False

    def write(self, changes: AssignmentChanges) -> Op[Counter[str]]:
        """Write the changes; returns how many containers of each pool were placed.

        Raises LeadershipLostError.
        """
        placed: Counter[str] = Counter()
        by_worker: dict[str, dict[str, str | None]] = {}
        for container, off in changes.off.items():
            by_worker.setdefault(off.worker, {})[container] = None
        for each in changes.placements:
            by_worker.setdefault(each.worker, {})[self._new_id(each.worker)] = each.pool
        results = yield from gather([self._assign(*each) for each in by_worker.items()])
        for worker, result in zip(by_worker, results, strict=True):
            if isinstance(result, Exception):
                self._change_log.failed(worker, "it cannot be told what to run", result)
                self._nodes.avoid(worker)
            else:
                self._change_log.settle(worker)
                placed.update(pool for pool in by_worker[worker].values() if pool is not None)
        self._nodes.arrange()
        if self._is_superseded:
            raise LeadershipLostError
        return placed

    def _assign(self, worker: str, changes: dict[str, str | None]) -> Op[None]:
        if (yield from self._fleet.assign(worker, changes, epoch=self._epoch)):
            self._nodes.assigned(worker, changes)
        else:
            self._is_superseded = True

    def _new_id(self, worker: str) -> str:
        """A new container's id, never used on the box: the pool's stream knows its consumer by it, too."""
        while True:
            name = container_id(worker, next(self._serials))
            # A server that lost its last second counts an epoch twice.
            if not self._nodes.is_known(name, worker):
                return name
