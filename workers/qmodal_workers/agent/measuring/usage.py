"""What containers use while they run inputs: CPUs and memory, learned for each pool, written for the autoscaler.

A look costs the same whatever there is: it samples few containers, each of them the more seldom the more is known of its
pool. A container that is gone before its turn costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal_workers.agent.containers import Container, ContainerTable
from qmodal_workers.ipc import process_usage
from qmodal_workers.ipc.child_processes import family
from qmodal_workers.ipc.processes import exists
from qmodal_workers.spawn.bounded_dict import BoundedDict

LOOK_SECONDS = 0.5
# Containers that one look asks whether they were busy, and those that it samples.
MOST_ASKED, MOST_SAMPLED = 32, 8
# Of a program of so many processes only these count.
MOST_PROCESSES = 64
# A sample says something from so much time in inputs on.
LEAST_BUSY_SECONDS = 0.05
# So soon comes each of the first samples of a pool, and the next ones twice as late as the one before, up to the other.
FIRST_SECONDS, LATER_SECONDS, FIRST_SAMPLES = 0.5, 10.0, 3
# Larger programs are looked at in a thread: it takes longer than a start should wait.
LARGE_BYTES = 128 * 2**20
# So many times as long as a processor took to measure memory it is not measured again.
MEMORY_PAUSE = 100
# It is measured anew if what is resident differs by more than this part of what it was.
MEMORY_CHANGE = 0.1
WEIGHT = 0.5
# Memory that a container does not take any more is forgotten slowly: it will take it again.
FORGETTING = 0.1
WRITE_SECONDS = 3.0
MOST_WRITTEN = 16
# What differs by less than this part, or these amounts, is not worth a write.
CHANGE, CPU_CHANGE, MEMORY_BYTES = 0.2, 0.02, 2**20
MOST_POOLS = 4096


@dataclass(slots=True)
class PoolUse:
    """What a container of a pool uses, as far as is known; `due`: when it is sampled next, in monotonic seconds."""

    cpu: float | None = None
    memory: float | None = None
    due: float = 0.0
    samples: int = 0
    quiet: int = 0  # looks since it was busy
    resident: int = 0  # of the container whose memory was measured last
    written_cpu: float | None = None
    written_memory: float | None = None
    written_at: float = float("-inf")

    def learn_cpu(self, cpu: float) -> None:
        """Take in one more sample."""
        mean = cpu if self.cpu is None else self.cpu
        self.cpu = mean + WEIGHT * (cpu - mean)
        self.samples += 1

    def learn_memory(self, memory: float) -> None:
        """Take in one more sample: the most counts, and fades."""
        known = self.memory or 0.0
        self.memory = memory if memory > known else known + FORGETTING * (memory - known)

    @property
    def news(self) -> dict[str, float]:
        """What the server should know, and does not."""
        found: dict[str, float] = {}
        if self.cpu is not None and _differs(self.cpu, self.written_cpu, CPU_CHANGE):
            found["busy_cpu"] = round(self.cpu, 3)
        if self.memory is not None and _differs(self.memory, self.written_memory, MEMORY_BYTES):
            found["memory"] = int(self.memory)
        return found

    def wrote(self, news: dict[str, float], now: float) -> None:
        """That was written."""
        self.written_cpu = news.get("busy_cpu", self.written_cpu)
        self.written_memory = news.get("memory", self.written_memory)
        self.written_at = now

    def next_look(self, now: float, *, was_busy: bool) -> None:
        """When the pool is looked at next."""
        self.quiet = 0 if was_busy else self.quiet + 1
        known = self.quiet if not self.samples else max(self.samples, self.quiet)
        later = min(LATER_SECONDS, FIRST_SECONDS * 2.0 ** max(0, min(known, 8) - FIRST_SAMPLES))
        self.due = now + later


@dataclass(slots=True)
class _Sampled:
    """What a container had used when it was sampled last, in seconds."""

    cpu: float
    busy: float


class Usage:
    """Samples containers of all pools in turns, and keeps what was learned; one for each worker process."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._pools: BoundedDict[str, PoolUse] = BoundedDict(MOST_POOLS)
        self._sampled: BoundedDict[str, _Sampled] = BoundedDict(MOST_POOLS)
        self._changed: dict[str, PoolUse] = {}  # since they were written
        self._turn = 0
        self._memory_due = 0.0

    def memory_of(self, pool: str) -> int | None:
        """Bytes that a container of the pool takes, as measured here; None while that is not known."""
        use = self._pools.get(pool)
        return None if use is None or use.memory is None else int(use.memory)

    async def watch(self, containers: ContainerTable) -> None:
        """Look twice a second, for ever."""
        while process_usage.IS_KNOWN:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look(containers)
            await self._write(time.monotonic())

    async def look(self, containers: ContainerTable) -> None:
        """Sample some of the containers whose pool is due."""
        sampled = 0
        for container in self._due(containers):
            use = self._use(container.pool)
            was_busy = self._sample_cpu(container, use)
            if was_busy:
                sampled += 1
                self._changed[container.pool] = use
            if container.id in self._sampled:  # what it has taken in between shows in its peak
                await self._sample_memory(container, use)
            use.next_look(time.monotonic(), was_busy=was_busy)
            if sampled >= MOST_SAMPLED:
                return

    def _due(self, containers: ContainerTable) -> Iterator[Container]:
        """Containers to look at now, at most one of each pool; the next look begins with another one."""
        ready = [each for each in containers.running() if each.report.state == "ready"]
        now, asked = time.monotonic(), 0
        start = self._turn % len(ready) if ready else 0
        self._turn += 1
        for container in ready[start:] + ready[:start]:
            self._turn += 1
            use = self._pools.get(container.pool)
            if use is None or use.due <= now:
                yield container
                asked += 1
                if asked >= MOST_ASKED:
                    return

    def _use(self, pool: str) -> PoolUse:
        found = self._pools.get(pool)
        if found is None:
            found = self._pools[pool] = PoolUse()
        return found

    def _sample_cpu(self, container: Container, use: PoolUse) -> bool:
        """Learn what the container has taken since its last sample; False if it was not busy for long enough."""
        busy = _busy_seconds(container)
        last = self._sampled.get(container.id) or _Sampled(container.prepared_cpu, 0.0)
        lives = container.pid > 0 and exists(container.pid)
        if not lives or busy - last.busy < LEAST_BUSY_SECONDS:
            return False
        cpu = process_usage.cpu_seconds(family(container.pid, most=MOST_PROCESSES))
        # Less than before: the kernel counts in hundredths of a second, and not children that nobody waited for.
        use.learn_cpu(max(0.0, cpu - last.cpu) / (busy - last.busy))
        self._sampled[container.id] = _Sampled(cpu, busy)
        return True

    async def _sample_memory(self, container: Container, use: PoolUse) -> None:
        """Learn what memory it takes, if that may have changed; large programs take long to look at."""
        if time.monotonic() < self._memory_due:
            return
        resident = process_usage.resident(container.pid)
        changed = abs(resident.peak - use.resident)
        if changed <= MEMORY_CHANGE * use.resident:
            return
        use.resident = resident.peak
        is_large = resident.now > LARGE_BYTES
        pid = container.pid
        memory, took = await asyncio.to_thread(_memory, pid) if is_large else _memory(pid)
        if memory:
            use.learn_memory(memory + resident.peak - resident.now)
            self._changed[container.pool] = use
        self._memory_due = time.monotonic() + MEMORY_PAUSE * took

    async def _write(self, now: float) -> None:
        """Write what has changed, of few pools at a time, and of none of them often."""
        due = [
            (pool, use)
            for pool, use in self._changed.items()
            if use.written_at + WRITE_SECONDS < now
        ]
        for pool, use in due[:MOST_WRITTEN]:
            news = use.news
            if news:
                with contextlib.suppress(Error):
                    await self._client.aio(self._client.observing.learned(pool, **news))
                    use.wrote(news, now)
            self._changed.pop(pool, None)


def _busy_seconds(container: Container) -> float:
    """For how long it has run inputs so far, as its own tally says."""
    if container.endpoints is None:
        return 0.0
    now, record = time.monotonic_ns(), container.endpoints.record
    return record.tally.read(now, record.age(now))["busy"] / 1e6


def _memory(pid: int) -> tuple[int, float]:
    """Bytes that would be free without the container, and the processor seconds that it took to learn that."""
    began = time.thread_time()
    pids = family(pid, most=MOST_PROCESSES)
    # Children share with their parent what is nobody's own.
    found = process_usage.private(pid) if len(pids) == 1 else process_usage.proportional(pids)
    return found, time.thread_time() - began


def _differs(value: float, written: float | None, least: float) -> bool:
    """Whether it is worth a write."""
    return written is None or abs(value - written) > max(least, CHANGE * written)
