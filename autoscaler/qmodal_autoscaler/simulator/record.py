"""What a run leaves behind: each input's moments, each container's lifetime, and what was done to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from qmodal_autoscaler.simulator.traces.trace import Trace


class InputRecord(NamedTuple):
    """An input: when it came and when it began (the last time); `is_cold`: it waited for a container to start."""

    pool: str
    at: float
    began: float
    is_cold: bool

    @property
    def wait(self) -> float:
        """Seconds in the queue."""
        return self.began - self.at


class Lifetime(NamedTuple):
    """A container from its start until it had gone."""

    pool: str
    began: float
    ended: float


@dataclass(slots=True, kw_only=True)
class Record:
    """A run. `moves`: how many containers were started (or ended, below zero) when.

    `inputs` by their number in the trace; `busy_victims`: containers that a policy wanted to end although it had read
    that they run something.
    """

    trace: Trace
    inputs: dict[int, InputRecord] = field(default_factory=dict)
    lives: list[Lifetime] = field(default_factory=list)
    moves: list[tuple[float, int]] = field(default_factory=list)
    busy_victims: int = 0
    deaths: int = 0
