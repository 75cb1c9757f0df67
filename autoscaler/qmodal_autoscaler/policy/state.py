"""Values of the scaling policy: a pool's snapshot, settings, history and decision."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from qmodal_autoscaler.policy.window import ArrivalRate, LeastWindow, PeakWindow

ContainerState = Literal["starting", "ready", "draining"]
# Why a pool has the size that it has, or should have another.
Why = Literal[
    "enough",
    "backlog",
    "minimum",
    "maximum",
    "scaleup_window",
    "fewer",
    "new_version",
    "failed_starts",
    "paused",
]

# What a failed start was due to: a status, a signal, the memory, an import, its time limit, or something else.
FailureKind = Literal["exit", "signal", "out_of_memory", "import_error", "timeout", "other"]

# Absence of demand counts as evidence after this, or after the scaledown window, if that is shorter.
SETTLING_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerView:
    """A container as its worker last reported it.

    `since`: when its state began, on the clock of `now`; `running`: how many inputs it runs;
    `is_cordoned`: somebody wants its box to become empty, or to get nothing new.
    """

    id: str
    state: ContainerState
    running: int
    idle_seconds: float
    since: float
    version_current: bool = True
    worker: str = ""
    is_cordoned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSnapshot:
    """A pool at one moment.

    `inflight`: inputs without an outcome; `delayed`: those of them that wait for a retry; `submitted`:
    inputs since the pool exists. `failures` are the times of failed starts since the last success,
    oldest first; the caller clears them on a success and on a redeploy. `service_time` and `start_time`
    are learned means in seconds, None while unknown. `failed_by`: what the last failed start was due to. A pool that a person has paused has no containers.
    """

    inflight: int
    delayed: int
    submitted: int
    containers: tuple[ContainerView, ...]
    service_time: float | None
    start_time: float | None
    failures: tuple[float, ...] = ()
    failed_by: FailureKind = "other"
    is_paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """The autoscaler settings of a pool; windows in seconds, `slots` is what one container should run."""

    min_containers: int = 0
    max_containers: int | None = None
    buffer_containers: int = 0
    scaledown_window: float = 60.0
    slots: int = 1
    scaleup_window: float = 0.0
    alpha: float = 0.25  # share of a start time within which new containers should work off a queue
    ephemeral: bool = False  # the app lives only as long as its client
    gives_up: bool = True  # waiting inputs fail when no container can be started

    def capped(self, count: int) -> int:
        """The count, no higher than max_containers."""
        return count if self.max_containers is None else min(count, self.max_containers)

    @property
    def settling(self) -> float:
        """How long a new leader, a fresh container or a quiet pool is given, in seconds."""
        return min(self.scaledown_window, SETTLING_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleDownStep:
    """A step of scaling down: when it began, from how many containers, and how many it took."""

    began: float = -math.inf
    size: int = 0
    taken: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolHistory:
    """The past of a pool as far as its next decision needs it.

    `born` is when the pool was first observed; `least` are the sizes that were wanted, while there is a scale-up window; `quiet_since` is infinite while there are inputs to run;
    `settled` are the inputs that had settled by the last decision; `progress_at` is when that number last
    changed (or when nothing ran); `blocked_since` is when a rollout ran out of room.
    """

    born: float
    peak: PeakWindow = field(default_factory=PeakWindow)
    least: LeastWindow = field(default_factory=LeastWindow)
    arrivals: ArrivalRate = field(default_factory=ArrivalRate)
    quiet_since: float = -math.inf
    settled: int = -1
    progress_at: float = -math.inf
    step: ScaleDownStep = field(default_factory=ScaleDownStep)
    blocked_since: float | None = None

    @classmethod
    def empty(cls, now: float) -> PoolHistory:
        """The history of a pool that was not observed yet: nothing is scaled down at first."""
        return cls(born=now)

    def held_until(self, settings: PoolSettings) -> float:
        """The moment until which nothing is scaled down, because there is too little history."""
        return self.born + settings.settling

    def active_until(self, settings: PoolSettings) -> float:
        """The moment until which the buffer is kept; infinite while there are inputs to run."""
        return self.quiet_since + settings.settling


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolCounts:
    """Counts of a snapshot. `live` are the containers that are not draining.

    `waiting`: the backlog, and what containers run beyond their slots because others had no room.
    """

    live: tuple[ContainerView, ...]
    ready: tuple[ContainerView, ...]
    starting: tuple[ContainerView, ...]
    alive: int  # all containers, draining ones included
    current: int  # live containers of the current version
    busy: int  # live containers that run inputs
    running: int  # inputs that live containers run
    backlog: int
    waiting: int
    demand: bool
    hard: int

    @classmethod
    def of(cls, snapshot: PoolSnapshot, slots: int) -> PoolCounts:
        """Count a snapshot; `hard` is the most containers that its inputs could occupy."""
        live = tuple(c for c in snapshot.containers if c.state != "draining")
        running = sum(c.running for c in live)
        everywhere = sum(c.running for c in snapshot.containers)
        backlog = max(0, snapshot.inflight - everywhere - snapshot.delayed)
        return cls(
            live=live,
            ready=tuple(c for c in live if c.state == "ready"),
            starting=tuple(c for c in live if c.state == "starting"),
            alive=len(snapshot.containers),
            current=sum(c.version_current for c in live),
            busy=sum(c.running > 0 for c in live),
            running=running,
            backlog=backlog,
            waiting=backlog + sum(max(0, c.running - slots) for c in live),
            demand=backlog + everywhere > 0,
            hard=math.ceil((backlog + running) / slots),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The decision for one pool: what starts and what ends now, why, and when to decide again at the latest.

    `desired` is the size the pool should reach (within min and max); `start` is how many
    containers of the current version to add now; `drain` names containers to stop now and
    `retire` busy ones that may finish what they run but take nothing new. `reason` is for people, `why`
    the kind of it. `give_up` says that
    the pool cannot start and its queued inputs should fail.
    """

    history: PoolHistory
    desired: int
    start: int = 0
    drain: tuple[str, ...] = ()
    retire: tuple[str, ...] = ()
    retry_at: float | None = None
    reason: str = ""
    why: Why = "enough"
    give_up: bool = False
