"""From decisions to assignments: what starts where, what is taken off, written with our epoch."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field

from qmodal.store.fleet import Fleet
from qmodal.transport.gather import gather
from qmodal.transport.operation import Op
from qmodal.wire.ids import container_id
from qmodal_autoscaler.change_log import ChangeLog
from qmodal_autoscaler.cluster.nodes import Holding, Nodes
from qmodal_autoscaler.policy.placement import Need, place

# Serials of containers begin anew, this far apart, with every leadership.
SERIALS = 10**9


class DethronedError(Exception):
    """Another autoscaler leads."""


@dataclass(slots=True)
class Changes:
    """What one round wants changed: containers to take off their boxes, and pools that need more."""

    off: dict[str, Holding] = field(default_factory=dict)
    needs: list[Need] = field(default_factory=list)

    def take_off(self, holding: Holding) -> None:
        """The container should not run any more."""
        if holding.is_assigned:
            self.off[holding.container] = holding


class Assigner:
    """Writes the changes of one leadership."""

    def __init__(self, fleet: Fleet, view: Nodes, epoch: int, journal: ChangeLog) -> None:
        self._fleet = fleet
        self._view = view
        self._journal = journal
        self._epoch = epoch
        self._serials = itertools.count(epoch * SERIALS)

    def write(self, changes: Changes, server_ms: float) -> Op[Counter[str]]:
        """Place and write; how many containers of each pool found room. Raises DethronedError."""
        placed: Counter[str] = Counter()
        by_worker: dict[str, dict[str, str | None]] = {}
        for container, holding in changes.off.items():
            by_worker.setdefault(holding.worker, {})[container] = None
        rooms = self._view.rooms(server_ms) if changes.needs else []
        for pool, worker in place(changes.needs, rooms):
            by_worker.setdefault(worker, {})[self._new_id(worker)] = pool
        results = yield from gather([self._assign(*each) for each in by_worker.items()])
        for worker, result in zip(by_worker, results, strict=True):
            if isinstance(result, Exception):
                self._journal.failed(worker, "it cannot be told what to run", result)
                self._view.avoid(worker)
            else:
                self._journal.settle(worker)
                placed.update(pool for pool in by_worker[worker].values() if pool is not None)
        self._view.arrange()
        if self._is_dethroned:
            raise DethronedError
        return placed

    _is_dethroned = False

    def _assign(self, worker: str, changes: dict[str, str | None]) -> Op[None]:
        if (yield from self._fleet.assign(worker, changes, epoch=self._epoch)):
            self._view.assigned(worker, changes)
        else:
            self._is_dethroned = True

    def _new_id(self, worker: str) -> str:
        """An id that was never used on the box: its container's name is its consumer's, too."""
        while True:
            name = container_id(worker, next(self._serials))
            # A server that lost its last second counts an epoch twice.
            if not self._view.is_known(name, worker):
                return name
