"""Whether there is memory for one more container, so that no start makes the kernel end others.

A container is expected to take what one of its pool was measured to take, here or elsewhere, else what its function asks
for. What those that run have not taken yet is counted, too: thirty that start at once have taken nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from qmodal_workers.agent.box.machine import free_memory
from qmodal_workers.agent.box.offered import Offered
from qmodal_workers.agent.containers import Container, ContainerTable
from qmodal_workers.ipc.child_processes import family
from qmodal_workers.ipc.process_usage import anonymous

# A container of which nothing is known.
USUAL_BYTES = 32 * 2**20
# What is always left to the machine: a part of what is offered, and not more than so much.
RESERVED_PART, MOST_RESERVED = 0.05, 2**30
# What is free, and what containers have taken of it, is looked at so often.
FRESH_SECONDS = 0.2
MOST_PROCESSES = 16  # of a container, which count


class MemoryRoom:
    """The memory of one box; `measured` says what a container of a pool takes (None: nobody knows)."""

    def __init__(
        self,
        containers: ContainerTable,
        measured: Callable[[str], int | None],
        offered: Offered,
        *,
        free: Callable[[], int] = free_memory,
        taken: Callable[[int], int] = lambda pid: anonymous(family(pid, most=MOST_PROCESSES)),
    ) -> None:
        self._containers = containers
        self._measured = measured
        self._offered = offered
        self._free_now = free
        self._taken_by = taken
        self._free = 0
        self._taken: dict[str, int] = {}
        self._looked = float("-inf")

    def has_room(self, pool: str) -> bool:
        """Whether one more container of the pool fits; the first one of a box always does, or nothing ever would."""
        living = self._containers.living()
        if not living:
            return True
        planned = {each.pool: each.expected_memory for each in living}
        wanted = {*planned, pool}
        each_takes = {name: self._expected(name, planned.get(name, 0)) for name in wanted}
        together = sum(each_takes[each.pool] for each in living) + each_takes[pool]
        reserved = min(MOST_RESERVED, int(RESERVED_PART * self._offered.memory))
        self._look(living)
        # As if none of what they need had been taken yet: if that fits, nothing has to be looked up.
        if together <= min(self._free - reserved, self._offered.memory):
            return True
        if together > self._offered.memory and self._offered.is_measured:
            return False
        owed = sum(max(0, each_takes[each.pool] - self._taken_of(each)) for each in living)
        return owed + each_takes[pool] + reserved <= self._free

    def _expected(self, pool: str, planned: int) -> int:
        measured = self._measured(pool)
        return measured if measured is not None else planned or USUAL_BYTES

    def _look(self, living: list[Container]) -> None:
        now = time.monotonic()
        if now - self._looked > FRESH_SECONDS:
            self._looked, self._free, self._taken = now, self._free_now(), {}

    def _taken_of(self, container: Container) -> int:
        """What it had taken when we looked at what is free, or soon after that."""
        found = self._taken.get(container.id)
        if found is None:
            is_younger = container.assigned_at > self._looked
            now = 0 if is_younger or not container.pid else self._taken_by(container.pid)
            found = self._taken[container.id] = max(0, now - container.inherited_memory)
        return found
