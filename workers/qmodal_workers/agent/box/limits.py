"""Limits of containers: `memory=(request, limit)` and `cpu=(request, limit)`, by control groups where we may make some.

Elsewhere the worker looks a few times a second what a container with a limit has taken, and ends it; and a CPU limit is
the number of processors that it may use, rounded up.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections import Counter

from qmodal.spec.needs.needs import Needs
from qmodal.spec.needs.sizes import size
from qmodal.transport.defects import survive
from qmodal_workers.agent.box.cgroups import Cgroups
from qmodal_workers.agent.containers import Container, ContainerTable
from qmodal_workers.ipc.child_processes import family, own_children
from qmodal_workers.ipc.process_marks import mark_of
from qmodal_workers.ipc.process_usage import IS_KNOWN, anonymous, proportional, resident
from qmodal_workers.ipc.processes import send_signal

CHECK_SECONDS = 0.25
# Of a program of so many processes only these are looked at.
MOST_PROCESSES = 256
# Exactly it is looked at so many times as long afterwards: that takes a millisecond for each 100 MB.
PAUSE = 20


class ContainerLimits:
    """Sets the limits of one worker's containers, and ends those that take more memory than theirs."""

    def __init__(self, containers: ContainerTable, cgroups: Cgroups | None = None) -> None:
        self._containers = containers
        self._cgroups = cgroups
        self._looked_until: dict[str, float] = {}

    def plan(self, container: Container, needs: Needs, measured: int | None) -> None:
        """Note what it is expected to take (bytes that others of its pool take), and may not exceed; before its process."""
        container.expected_memory = needs.memory or 0 if measured is None else measured
        container.memory_limit = needs.memory_limit or 0
        container.cpu_limit = needs.cpu_limit or 0.0
        if container.cpu_limit and self._cgroups is None and IS_KNOWN:
            container.processors = self._least_used(math.ceil(container.cpu_limit))

    def begun(self, container: Container, pid: int) -> None:
        """It has a process now, in which no user code has run yet, or has only just begun."""
        container.inherited_memory = anonymous([pid])
        if self._cgroups is not None and (container.memory_limit or container.cpu_limit):
            container.has_group = self._cgroups.join(
                container.id, pid, memory=container.memory_limit, cpu=container.cpu_limit
            )

    def ended(self, container: Container) -> None:
        """All of its processes have ended: see whether that was for want of memory, and tidy up."""
        self._looked_until.pop(container.id, None)
        if container.has_group and self._cgroups is not None:
            container.has_group = False
            if self._cgroups.leave(container.id):
                container.over_memory = _too_much(
                    f"more than {size(container.memory_limit)}", container
                )

    def _least_used(self, count: int) -> tuple[int, ...]:
        """Processors for a container that may use so many: those that fewest others are limited to."""
        used = Counter(each for other in self._containers.living() for each in other.processors)
        ours = sorted(os.sched_getaffinity(0), key=lambda each: (used[each], each))
        return tuple(ours[:count])

    async def watch(self) -> None:
        """Look four times a second, for ever."""
        while IS_KNOWN:
            await asyncio.sleep(CHECK_SECONDS)
            limited = [
                each
                for each in self._containers.running()
                if each.memory_limit and not each.has_group
            ]
            if limited:
                with survive("the look at memory limits"):
                    await self.look(limited)

    async def look(self, limited: list[Container]) -> None:
        """End those of the containers that have taken more than their limit."""
        orphans: dict[int, list[int]] = {}
        for pid in own_children():
            orphans.setdefault(mark_of(pid), []).append(pid)
        for container in limited:
            roots = orphans.get(container.mark, []) if container.mark else []
            pids = {*family(container.pid, most=MOST_PROCESSES)}
            for root in roots:
                pids.update(family(root, most=MOST_PROCESSES))
            await self._check(container, sorted(pids))

    async def _check(self, container: Container, pids: list[int]) -> None:
        # Too much, where processes share memory, as those of a fork do: never too little.
        if sum(resident(pid).now for pid in pids) <= container.memory_limit:
            return
        began = time.monotonic()
        if began < self._looked_until.get(container.id, 0.0):
            return
        taken = await asyncio.to_thread(proportional, pids)
        now = time.monotonic()
        self._looked_until[container.id] = now + PAUSE * (now - began)
        if (
            taken > container.memory_limit
            and container.termination is None
            and not container.is_over
        ):
            container.over_memory = _too_much(size(taken), container)
            if container.report.state == "starting":
                container.failure = container.over_memory
            send_signal(container.pid, signal.SIGKILL)


def _too_much(taken: str, container: Container) -> str:
    return f"its container used {taken}, above its memory limit of {size(container.memory_limit)}; raise `memory=`"
