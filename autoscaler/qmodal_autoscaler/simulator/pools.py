"""What the engine keeps of a pool: its queue, its containers, and what it has learned of their times."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

# Weights of a new service time and of a new start time in their moving means.
SERVICE_WEIGHT, START_WEIGHT = 0.1, 0.3


class QueuedInput(NamedTuple):
    """An input that waits or runs: when it came, how long it takes, and its number in the trace."""

    at: float
    service: float
    number: int


@dataclass(slots=True, eq=False)
class SimulatedContainer:
    """A container from its start until it has gone; moments in simulated seconds.

    `ready_at` is infinite while it starts; `draining`: it takes nothing more; `running`: inputs by their
    number; `is_free`: it stands in its pool's row of containers with room.
    """

    id: str
    pool: SimulatedPool
    started: float
    box: str = ""
    ready_at: float = math.inf
    idle_since: float = math.inf
    running: dict[int, QueuedInput] = field(default_factory=dict)
    draining: bool = False
    gone: bool = False
    is_free: bool = False
    has_run: bool = False


@dataclass(slots=True, eq=False)
class SimulatedPool:
    """A pool; `submitted` and `settled` count inputs, `service_time` and `start_time` are learned means.

    `queue` holds what waits, first come first; `free` the ready containers that have room, in the order
    in which they began to wait, as blocked readers of a stream are served.
    """

    name: str
    slots: int
    window: float
    service_time: float | None = None
    start_time: float | None = None
    submitted: int = 0
    settled: int = 0
    queue: deque[QueuedInput] = field(default_factory=deque)
    containers: dict[str, SimulatedContainer] = field(default_factory=dict)
    free: deque[SimulatedContainer] = field(default_factory=deque)

    @property
    def inflight(self) -> int:
        """Inputs without an outcome."""
        return self.submitted - self.settled

    @property
    def live(self) -> list[SimulatedContainer]:
        """The containers that are not on their way out."""
        return [each for each in self.containers.values() if not each.draining]

    @property
    def ready(self) -> int:
        """How many containers are ready and take inputs."""
        return sum(each.ready_at < math.inf for each in self.live)

    def learn_service(self, seconds: float) -> None:
        """Take the time of one more input into the mean."""
        before = seconds if self.service_time is None else self.service_time
        self.service_time = before + SERVICE_WEIGHT * (seconds - before)

    def learn_start(self, seconds: float) -> None:
        """Take the time of one more start into the mean."""
        before = seconds if self.start_time is None else self.start_time
        self.start_time = before + START_WEIGHT * (seconds - before)
