"""Turnover: assigned containers that wait for room on the box, and idle ones that give way to them."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import time
from collections.abc import Mapping

from qmodal.transport.defects import survive
from qmodal_workers.agent.box.memory_room import MemoryRoom
from qmodal_workers.agent.box.offered import Offered
from qmodal_workers.agent.containers import Container, ContainerTable
from qmodal_workers.agent.drain import Drain
from qmodal_workers.agent.starter import Starter
from qmodal_workers.agent.watchdog import is_running
from qmodal_workers.devices.leases import GpuLeases

# While starts wait, containers are looked at this often.
LOOK_SECONDS = 0.05
TOGETHER_SECONDS = 0.005
# What takes no longer to prepare gives way at once when it is idle: it costs no more than a call.
CHEAP_SECONDS = 0.25
# Others keep their place, idle, for as long as they took to prepare, at most so long.
LONGEST_IDLE_SECONDS = 30.0
# Assignments that wait for room, for each processor: what turns over between two rounds of the leader.
AHEAD_EACH = 8
# Processes that begin at once, for each processor: more would only make each other late.
STARTS_EACH = 3
# A start counts as such for no longer: hooks that load something wait for others than the processors.
STARTING_SECONDS = 0.1
# One that still waits in a claim from before gives way when it was seen idle for so much longer.
SURE_SECONDS = 0.05


class Turnover:
    """The assigned containers of a worker that wait for room, in the order of their assignment.

    `most`: the containers of the box; fewer run if there is no memory for more. Containers that have only their exit hooks left do not count, up to
    one for each processor: the next one starts meanwhile.
    """

    def __init__(
        self,
        containers: ContainerTable,
        starter: Starter,
        drain: Drain,
        *,
        gpus: GpuLeases,
        offered: Offered,
        memory: MemoryRoom,
    ) -> None:
        self.most = offered.max_containers
        self._memory = memory
        self._containers = containers
        self._starter = starter
        self._drain = drain
        self._gpus = gpus
        self._cpus = offered.processors
        self._waiting: dict[str, str] = {}
        self._overrides: Mapping[str, Mapping[str, float]] = {}
        self._is_pressing = False
        self._is_short = False  # of memory, for the first that waits

    @property
    def ahead(self) -> int:
        """How many assignments it takes beyond the containers of the box."""
        return min(self.most, AHEAD_EACH * self._cpus)

    @property
    def is_full(self) -> bool:
        """Whether assigned containers wait for room."""
        return bool(self._for_a_place()) and (self._is_short or self._room() <= 0)

    def take(
        self, assigned: Mapping[str, str], overrides: Mapping[str, Mapping[str, float]]
    ) -> None:
        """Take in what is assigned (container → pool) and the overrides of pools; start what there is room for."""
        missing = [name for name in assigned if name not in self._containers]
        # No leader assigns more than the box takes; whoever else writes there must not make lists long.
        first = heapq.nsmallest(self.most + self.ahead, missing, key=_serial)
        self._waiting = {name: assigned[name] for name in first}
        self._overrides = overrides
        for name in self._starter.put_off.keys() - assigned.keys():
            del self._starter.put_off[name]
        self.start()
        if self._waiting:
            self._containers.moved.set()  # `watch` looks again and again from now on

    def close(self) -> None:
        """Start nothing more."""
        self._waiting = {}

    async def watch(self) -> None:
        """Start what waits as room appears, for ever."""
        while True:
            self._containers.moved.clear()
            with survive("the look at what waits for room"):
                self.start()
                self._press()
            # Whatever moves within that time shares one look.
            await asyncio.sleep(TOGETHER_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS if self._waiting else None):
                    await self._containers.moved.wait()

    def start(self) -> None:
        """Start those that wait, as far as places, processors and memory allow."""
        self._is_short = False
        for name in self._for_a_place()[: max(0, min(self._room(), self._at_once()))]:
            # Whoever needs more waits for it, and no smaller one goes before: it would never have its turn.
            if not self._memory.has_room(self._waiting[name]):
                self._is_short = True
                return
            pool = self._waiting.pop(name)
            with survive(f"starting {name}"):
                self._starter.begin(name, pool)

    def _for_a_place(self) -> list[str]:
        """Those that wait for nothing but a place: others, behind which nobody waits, wait for a GPU, too."""
        put_off = self._starter.put_off
        if not put_off:
            return list(self._waiting)
        has = {needs: self._gpus.has(needs) for needs in set(put_off.values())}
        return [name for name in self._waiting if name not in put_off or has[put_off[name]]]

    def _room(self) -> int:
        living = self._containers.living()
        ending = sum(each.report.leaving for each in living)
        return self.most - len(living) + min(ending, self._cpus)

    def _at_once(self) -> int:
        """How many starts the processors have room for."""
        since = time.monotonic() - STARTING_SECONDS
        starting = sum(
            each.report.state == "starting" and each.assigned_at > since
            for each in self._containers.living()
        )
        return STARTS_EACH * self._cpus - starting

    def _press(self) -> None:
        """Tell containers that others wait for their places, no more of them than do, and idle ones first."""
        wanted = self._wanted()
        if not (wanted or self._is_pressing):
            return
        self._is_pressing = wanted > 0
        now = time.monotonic()
        ready = [each for each in self._containers.running() if each.endpoints is not None]
        for container in sorted(ready, key=lambda each: self._seen_idle(each, now), reverse=True):
            after = self._idle_limit(container) if wanted > 0 else None
            if container.endpoints is not None:
                nanoseconds = None if after is None else int(after * 1e9)
                container.endpoints.record.want_place(nanoseconds)
            if after is not None:
                wanted -= 1
                if container.idle_for(now) > after + SURE_SECONDS:
                    self._drain.give_way(container)

    def _wanted(self) -> int:
        """How many places are wanted beyond those that will be free soon."""
        if not self.is_full:
            return 0
        return len(self._for_a_place()) - sum(
            each.report.leaving for each in self._containers.living()
        )

    @staticmethod
    def _seen_idle(container: Container, now: float) -> float:
        """For how many seconds it was seen idle, after one more look at it."""
        status = container.status()
        if status is None or status.state == "busy" or is_running(status) or status.inputs:
            container.idle_since = 0.0
        elif not container.idle_since:
            container.idle_since = now
        return container.idle_for(now)

    def _idle_limit(self, container: Container) -> float | None:
        """Seconds for which the container may be idle while others wait; None: it stays."""
        if container.report.state != "ready" or self._is_kept(container):
            return None
        seconds = container.preparing
        return 0.0 if seconds < CHEAP_SECONDS else min(seconds, LONGEST_IDLE_SECONDS)

    def _is_kept(self, container: Container) -> bool:
        """Whether its pool has a minimum or a buffer, of which only the leader knows the size now."""
        override, options = self._overrides.get(container.pool, {}), container.options
        least = override.get("min_containers", options.min_containers)
        return least > 0 or override.get("buffer_containers", options.buffer_containers) > 0


def _serial(container: str) -> tuple[int, str]:
    """The order in which the leader has assigned containers."""
    number = container.rpartition("-")[2]
    return (int(number) if number.isdecimal() else 0, container)
