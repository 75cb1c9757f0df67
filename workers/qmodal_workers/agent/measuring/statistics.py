"""Statistics of the functions of a box: what its containers have counted, and what only their worker knows.

They are added to those of the other boxes on the server. What cannot be added now is added later, once: a batch has
a number, and the server takes each number once.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.store.history.statistics import LARGEST_CHANGE, Counts, Series, observed
from qmodal.transport.defects import skip
from qmodal.wire.ids import new_worker_id
from qmodal_workers.agent.containers import Container, ContainerTable

ADD_SECONDS = 2.0
# At the end of the worker; what cannot be added by then is lost.
LAST_SECONDS = 2.0
# Functions in one batch, so that no script runs long.
MOST_AT_ONCE = 50
Changes = dict[Series, Counts]


@dataclass(slots=True)
class _Reading:
    """What has been taken from a container's tally so far; `since`: when its process began, in monotonic ns."""

    since: int
    taken: dict[str, int] = field(default_factory=dict)
    is_damaged: bool = False


class FunctionStatistics:
    """Gathers what has changed and adds it to the server; one for each worker process, whatever its ids."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._name = new_worker_id()
        # Of starts and ends, since this process began.
        self.totals: Counter[str] = Counter()
        self._changes: dict[Series, Counter[str]] = {}
        self._readings: dict[str, _Reading] = {}
        # Sent, and perhaps added already; the first one has number `_number`.
        self._batches: list[Changes] = []
        self._number = 1
        self._adding = asyncio.Lock()

    async def keep(self, containers: ContainerTable) -> None:
        """Read the tallies of all containers and add what has changed every two seconds, for ever."""
        while True:
            await asyncio.sleep(ADD_SECONDS)
            for container in containers.running():
                self.read(container)
            await self.add()

    def note(self, container: Container, field: str, amount: int = 1) -> None:
        """Count something that only the worker knows of one of its containers."""
        if container.series is not None and amount:
            self._changes.setdefault(container.series, Counter())[field] += amount

    def began(self, container: Container) -> None:
        """The container has a process now."""
        self._readings[container.id] = _Reading(time.monotonic_ns())
        self.totals["starts"] += 1
        self.note(container, "starts")

    def ready(self, container: Container, seconds: float) -> None:
        """The container can claim, so long after it was assigned."""
        for name, amount in observed("start", int(seconds * 1e6)).items():
            self.note(container, name, amount)

    def ended(self, container: Container, how: str) -> None:
        """The container is over: read its tally for the last time."""
        self.read(container)
        self._readings.pop(container.id, None)
        self.totals[f"end:{how}"] += 1
        self.note(container, f"end:{how}")

    def read(self, container: Container) -> None:
        """Take in what the container has counted since the last reading."""
        reading = self._readings.get(container.id)
        if reading is None or reading.is_damaged or container.endpoints is None:
            return
        now, record = time.monotonic_ns(), container.endpoints.record
        found = record.tally.read(now, record.age(now))
        found["alive"] = (now - reading.since) // 1000
        found["busy"] = min(found["busy"], found["alive"])
        grown = {name: count - reading.taken.get(name, 0) for name, count in found.items()}
        if max(grown.values()) > LARGEST_CHANGE:
            reading.is_damaged = True
            skip(container.id, "its user code has changed what it counts")
            return
        for name, amount in grown.items():
            # Of a reading beside a write some may be less than before; the next one makes up for it.
            if amount > 0:
                self.note(container, name, amount)
                reading.taken[name] = found[name]

    async def add(self) -> bool:
        """Add what was gathered; False if some of it has to be added later."""
        async with self._adding:
            self._gather()
            while self._batches:
                statistics = self._client.statistics
                try:
                    await self._client.aio(
                        statistics.add(self._name, self._number, self._batches[0])
                    )
                except Error:
                    return False
                del self._batches[0]
                self._number += 1
            return True

    async def finish(self) -> None:
        """Add what is left, if that does not take long."""
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self.add()
        except TimeoutError:
            return

    def _gather(self) -> None:
        """Make batches of what was gathered, unless the last ones wait: so an outage makes no more of them."""
        if self._batches:
            return
        gathered, self._changes = list(self._changes.items()), {}
        self._batches = [
            dict(gathered[start : start + MOST_AT_ONCE])
            for start in range(0, len(gathered), MOST_AT_ONCE)
        ]
