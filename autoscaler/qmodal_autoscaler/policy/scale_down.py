"""Which containers a pool can do without: the surplus over its recent peak, never a busy one."""

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

FRESH = 2.0  # seconds after becoming ready in which a container has not had its chance yet
STEP = 0.75  # seconds between steps down; two steps empty a pool within a second of its window
UNUSED = 0.1  # seconds by which the reports of readiness and of idleness may differ


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
        boots = [c for c in counts.starting if now - c.since >= settings.settling]
        dropped = sorted(boots, key=_newest)[: max(0, len(counts.live) - keep)]
    idle = [c for c in counts.ready if c.running == 0 and now >= evidence_at(c, settings, now)]
    spare = counts.busy + len(idle) - keep
    return dropped + victims(idle, counts.live)[: max(0, spare)]


def kept(counts: PoolCounts, settings: PoolSettings, history: PoolHistory, now: float) -> int:
    """How many ready containers the window, the buffer and the minimum hold on to."""
    peak = history.peak.high(now, settings.scaledown_window)
    if now < history.active_until(settings):
        peak += settings.buffer_containers
    return max(peak, math.ceil(counts.running / settings.slots), settings.min_containers)


def evidence_at(container: ContainerView, settings: PoolSettings, now: float) -> float:
    """From when on an idle ready container may be a victim."""
    unused = container.idle_seconds + UNUSED >= now - container.since
    return container.since + (max(FRESH, settings.settling) if unused else FRESH)


def excess(
    counts: PoolCounts, settings: PoolSettings, leaving: Collection[str]
) -> list[ContainerView]:
    """Containers above max_containers that run nothing, beyond the ones already leaving."""
    over = len(counts.live) - settings.capped(len(counts.live)) - len(leaving)
    idle = victims([c for c in counts.ready if c.running == 0], counts.live)
    stoppable = sorted(counts.starting, key=_newest) + idle
    return [c for c in stoppable if c.id not in leaving][: max(0, over)]


def victims(idle: Sequence[ContainerView], live: Sequence[ContainerView]) -> list[ContainerView]:
    """Idle containers in the order of leaving: old code, crowded worker, longest idle, oldest."""
    crowd = Counter(c.worker for c in live)
    return sorted(
        idle, key=lambda c: (c.version_current, -crowd[c.worker], -c.idle_seconds, c.since, c.id)
    )


def next_step(step: ScaleDownStep, size: int, now: float) -> ScaleDownStep:
    """The step that `now` belongs to: half of the pool at most, whatever the pool was at first."""
    if now < step.began + STEP:
        return step
    continued = now < step.began + 2 * STEP
    return ScaleDownStep(began=now, size=max(size, step.size if continued else 0))


def allowance(step: ScaleDownStep) -> int:
    """How many more containers this step may take."""
    return max(1, math.ceil(step.size / 2)) - step.taken


def _newest(container: ContainerView) -> tuple[bool, float, str]:
    return (container.version_current, -container.since, container.id)
