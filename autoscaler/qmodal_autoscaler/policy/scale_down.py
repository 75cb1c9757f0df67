"""Scaling down: the surplus of containers over the recent peak of a pool, never a busy one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence

from qmodal_autoscaler.policy.state import (
    ContainerView,
    PoolCounts,
    PoolHistory,
    PoolSettings,
    PoolSnapshot,
    ScaleDownStep,
)

# A container is not scaled down within this time of becoming ready: it had no chance to be used yet.
FRESH_SECONDS = 2.0
# Between two steps down; two steps empty a pool within a second of its window.
STEP_SECONDS = 0.75
# By how much the reported times of readiness and of idleness may differ.
REPORT_SKEW_SECONDS = 0.1


def surplus(
    counts: PoolCounts,
    snapshot: PoolSnapshot,
    settings: PoolSettings,
    history: PoolHistory,
    now: float,
) -> list[ContainerView]:
    """Containers above what the pool kept busy during the window, best victim first.

    Nothing while inputs wait, nor while the only inputs are retries that will come back.
    """
    if counts.backlog or (snapshot.delayed and not counts.demand):
        return []
    active = now < history.active_until(settings)
    keep = kept(counts, settings, history, now)
    dropped: list[ContainerView] = []
    if not active:
        boots = [c for c in counts.starting if is_pointless(c, snapshot, settings, now)]
        dropped = sorted(boots, key=_newest)[: max(0, len(counts.live) - keep)]
    grace = unused_grace(snapshot, settings)
    idle = [c for c in counts.ready if c.running == 0 and now >= evidence_at(c, grace, now)]
    spare = counts.busy + len(idle) - keep
    return dropped + victims(idle, counts.live)[: max(0, spare)]


def kept(counts: PoolCounts, settings: PoolSettings, history: PoolHistory, now: float) -> int:
    """The number of ready containers that the window, the buffer and the minimum keep."""
    peak = history.peak.high(now, settings.scaledown_window)
    if now < history.active_until(settings):
        peak += settings.buffer_containers
    return max(peak, math.ceil(counts.running / settings.slots), settings.min_containers)


def unused_grace(snapshot: PoolSnapshot, settings: PoolSettings) -> float:
    """How long a ready container that has run nothing yet is kept, in seconds.

    For as long as its start took, where inputs are shorter than that, because another input would cost as
    much again; never beyond the window, which is the most that users allow.
    """
    return max(FRESH_SECONDS, min(settings.scaledown_window, _worth(snapshot, settings)))


def is_pointless(
    container: ContainerView, snapshot: PoolSnapshot, settings: PoolSettings, now: float
) -> bool:
    """Whether a starting container of a quiet pool may be given up.

    An expensive start that is half done is finished; one that takes twice the learned time is stuck.
    """
    age = now - container.since
    worth = _worth(snapshot, settings)
    is_half_done = worth > settings.settling and worth / 2 <= age < 2 * worth
    return age >= settings.settling and not is_half_done


def boot_moments(
    container: ContainerView, snapshot: PoolSnapshot, settings: PoolSettings
) -> tuple[float, float]:
    """The moments from which on a starting container may be given up."""
    return (
        container.since + settings.settling,
        container.since + 2 * _worth(snapshot, settings),
    )


def evidence_at(container: ContainerView, grace: float, now: float) -> float:
    """The moment from which on an idle ready container may be scaled down; `grace` is for an unused one."""
    unused = container.idle_seconds + REPORT_SKEW_SECONDS >= now - container.since
    return container.since + (grace if unused else FRESH_SECONDS)


def _worth(snapshot: PoolSnapshot, settings: PoolSettings) -> float:
    """The seconds of idling that a start is worth: its own, if the inputs are shorter."""
    start = snapshot.start_time or 0.0
    return (
        start if start > max(settings.settling, snapshot.service_time or 0.0) else settings.settling
    )


def excess(
    counts: PoolCounts, settings: PoolSettings, leaving: Collection[str]
) -> list[ContainerView]:
    """Containers above max_containers that run nothing, beyond the ones already leaving."""
    over = len(counts.live) - settings.capped(len(counts.live)) - len(leaving)
    idle = victims([c for c in counts.ready if c.running == 0], counts.live)
    stoppable = sorted(counts.starting, key=_newest) + idle
    return [c for c in stoppable if c.id not in leaving][: max(0, over)]


def victims(idle: Sequence[ContainerView], live: Sequence[ContainerView]) -> list[ContainerView]:
    """Idle containers in the order of leaving: old code, cordoned box, crowded box, longest idle, oldest."""
    crowd = Counter(c.worker for c in live)
    return sorted(
        idle,
        key=lambda c: (
            c.version_current,
            not c.is_cordoned,
            -crowd[c.worker],
            -c.idle_seconds,
            c.since,
            c.id,
        ),
    )


def next_step(step: ScaleDownStep, size: int, now: float) -> ScaleDownStep:
    """The step that `now` belongs to; a step takes at most half of what the first of its series began with."""
    if now < step.began + STEP_SECONDS:
        return step
    continued = now < step.began + 2 * STEP_SECONDS
    return ScaleDownStep(began=now, size=max(size, step.size if continued else 0))


def allowance(step: ScaleDownStep) -> int:
    """How many more containers this step may take."""
    return max(1, math.ceil(step.size / 2)) - step.taken


def _newest(container: ContainerView) -> tuple[bool, bool, float, str]:
    return (
        container.version_current,
        not container.is_cordoned,
        -container.since,
        container.id,
    )
