"""The scaling decision for one pool: arithmetic over what was seen, remembered and configured."""

from __future__ import annotations

import math
from dataclasses import replace

from qmodal_autoscaler.policy import scale_down as shrink, start_backoff as crash
from qmodal_autoscaler.policy.rollout import PATIENCE, Rollout, blocked_since, outgoing
from qmodal_autoscaler.policy.sizing import needed
from qmodal_autoscaler.policy.state import (
    Census,
    ContainerView,
    Decision,
    Memory,
    PoolSettings,
    PoolSnapshot,
)


def decide(memory: Memory, snapshot: PoolSnapshot, settings: PoolSettings, now: float) -> Decision:
    """What to start and what to drain in one pool at `now` (seconds, any steady clock)."""
    census = Census.of(snapshot, settings.slots)
    pause = crash.backoff(snapshot.failures, ephemeral=settings.ephemeral)
    if snapshot.stale:
        return _blind(census, settings, memory, pause, now)
    memory = _observe(memory, snapshot, census, settings, now)
    need = needed(census, snapshot, settings, memory, now)
    memory = replace(memory, blocked_since=blocked_since(census, need, memory, now))
    start = pause.allowed(_room(census, settings, need), len(census.starting), now)
    memory, leaving = _leaving(census, snapshot, settings, memory, need, now)
    give_up = pause.hopeless and now < pause.until and bool(census.backlog) and not census.live
    gone = len(leaving.drain) + len(leaving.retire)
    size = max(need, len(census.live) + start - gone, settings.min_containers)
    return Decision(
        memory=memory,
        desired=settings.capped(size),
        start=start,
        drain=_ids(leaving.drain),
        retire=_ids(leaving.retire),
        retry_at=_retry_at(census, settings, memory, pause, now),
        reason=_reason(census, need, start, leaving, pause, now),
        give_up=give_up,
    )


def serves_alone(snapshot: PoolSnapshot, decision: Decision, settings: PoolSettings) -> bool:
    """Whether an input that comes alone finds a container ready, and changes nothing else."""
    is_steady = not (decision.start or decision.drain or decision.retire or snapshot.stale)
    is_ready = any(container.state == "ready" for container in snapshot.containers)
    return is_steady and is_ready and not settings.buffer_containers


def _blind(
    census: Census, settings: PoolSettings, memory: Memory, pause: crash.Backoff, now: float
) -> Decision:
    """Counts that cannot be trusted change nothing, but an empty pool still answers its wake."""
    size = len(census.live)
    first = 1 if census.backlog and not size else 0
    start = pause.allowed(_room(census, settings, first), len(census.starting), now)
    desired = settings.capped(max(size + start, settings.min_containers))
    reason = "the pool's counts are stale: nothing changes"
    if start:
        reason = "the pool's counts are stale, but an input waits and nothing runs: one container"
    return Decision(memory=memory, desired=desired, start=start, reason=reason)


def _observe(
    memory: Memory, snapshot: PoolSnapshot, census: Census, settings: PoolSettings, now: float
) -> Memory:
    idle = [c.idle_seconds for c in census.ready if c.running == 0]
    ended = min(now, max(memory.peak.seen, now - min(idle, default=0.0)))
    # A ready container with an input waiting for it is as good as busy: short inputs are over
    # before the next look, and their containers would never count.
    level = max(census.busy, min(len(census.ready), census.hard))
    quiet_since = math.inf if census.demand else memory.quiet_since
    if not census.demand and memory.quiet_since == math.inf:
        quiet_since = ended
    settled = snapshot.submitted - snapshot.inflight
    moved = settled != memory.settled or census.running == 0
    return replace(
        memory,
        peak=memory.peak.observe(level, ended=ended, now=now, width=settings.scaledown_window),
        arrivals=memory.arrivals.observe(snapshot.submitted, now),
        quiet_since=quiet_since,
        settled=settled,
        progress_at=now if moved else memory.progress_at,
    )


def _room(census: Census, settings: PoolSettings, need: int) -> int:
    """Starts that lead to `need` current containers; those still draining count for the maximum."""
    wanted = max(0, need - census.current)
    return max(0, settings.capped(census.alive + wanted) - census.alive)


def _leaving(
    census: Census,
    snapshot: PoolSnapshot,
    settings: PoolSettings,
    memory: Memory,
    need: int,
    now: float,
) -> tuple[Memory, Rollout]:
    """The containers to drain and retire, within what one step down may take."""
    failing = bool(snapshot.failures)
    old = outgoing(census, need, settings, memory, failing=failing, now=now)
    chosen = {c.id: c for c in old.drain}
    # Old code gives way without any history: held back with the rest, it answered calls for ten
    # seconds after a deploy.
    if now >= memory.held_until(settings):
        chosen |= {c.id: c for c in shrink.surplus(census, snapshot, settings, memory, now)}
        chosen |= {c.id: c for c in shrink.excess(census, settings, [*chosen, *_ids(old.retire)])}
    step = shrink.next_step(memory.step, len(census.live), now)
    drain = list(chosen.values())[: max(0, shrink.allowance(step))]
    if drain:
        memory = replace(memory, step=replace(step, taken=step.taken + len(drain)))
    return memory, Rollout(drain=drain, retire=old.retire)


def _retry_at(
    census: Census, settings: PoolSettings, memory: Memory, pause: crash.Backoff, now: float
) -> float | None:
    """The next moment at which time alone may change the decision."""
    moments = [pause.until]
    if memory.blocked_since is not None:
        moments.append(memory.blocked_since + PATIENCE)
    if len(census.live) > settings.min_containers or census.current < len(census.live):
        fall = memory.peak.next_fall(now, settings.scaledown_window)
        moments += [memory.held_until(settings), memory.active_until(settings)]
        moments += [memory.step.began + shrink.STEP, math.inf if fall is None else fall]
        moments += [shrink.evidence_at(c, settings, now) for c in census.ready if c.running == 0]
        moments += [c.since + settings.settling for c in census.starting]
    return min((moment for moment in moments if now < moment < math.inf), default=None)


def _ids(containers: list[ContainerView]) -> tuple[str, ...]:
    return tuple(c.id for c in containers)


def _reason(
    census: Census, need: int, start: int, leaving: Rollout, pause: crash.Backoff, now: float
) -> str:
    """One short sentence for people who ask why."""
    if leaving.drain or leaving.retire:
        return _why_fewer(census, leaving)
    if start < need - census.current:
        return _why_not(need - census.current, start, pause, now)
    if not start:
        return f"{len(census.live)} containers are enough"
    if census.current < len(census.live):
        return f"{start} containers of the current version replace older ones"
    if census.backlog:
        return f"{census.backlog} inputs wait for {len(census.live)} containers: {start} more"
    return f"{start} more containers for the minimum or the buffer"


def _why_fewer(census: Census, leaving: Rollout) -> str:
    gone = len(leaving.drain) + len(leaving.retire)
    if any(not c.version_current for c in [*leaving.drain, *leaving.retire]):
        return f"{gone} containers of an older version give way"
    return f"{len(census.live) - gone} containers cover the recent peak: {gone} fewer"


def _why_not(wanted: int, start: int, pause: crash.Backoff, now: float) -> str:
    if now < pause.until:
        wait = pause.until - now
        return f"{pause.failures} starts in a row failed: the next may follow in {wait:.1f} s"
    if pause.failures >= 2:
        return f"{pause.failures} starts in a row failed: one container at a time"
    return f"{wanted} more containers are needed, max_containers leaves room for {start}"
