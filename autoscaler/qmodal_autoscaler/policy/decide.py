"""The scaling decision for one pool: arithmetic over its snapshot, its history and its settings."""

from __future__ import annotations

import math
from dataclasses import replace

from qmodal_autoscaler.policy import scale_down, start_backoff
from qmodal_autoscaler.policy.rollout import BLOCKED_SECONDS, Rollout, blocked_since, outgoing
from qmodal_autoscaler.policy.sizing import damped, needed
from qmodal_autoscaler.policy.state import (
    ContainerView,
    Decision,
    PoolCounts,
    PoolHistory,
    PoolSettings,
    PoolSnapshot,
    Why,
)


def decide(
    history: PoolHistory, snapshot: PoolSnapshot, settings: PoolSettings, now: float
) -> Decision:
    """Decide what to start and what to drain in one pool at `now` (seconds of any steady clock)."""
    counts = PoolCounts.of(snapshot, settings.slots)
    pause = start_backoff.backoff(snapshot.failures, ephemeral=settings.ephemeral)
    history = _observe(history, snapshot, counts, settings, now)
    if snapshot.is_paused:
        return _paused(history, counts)
    wanted = needed(counts, snapshot, settings, history, now)
    history, allowed = damped(wanted, counts, snapshot, settings, history, now)
    need = settings.capped(allowed)
    blocked = blocked_since(counts, need, history, now)
    if blocked != history.blocked_since:
        history = replace(history, blocked_since=blocked)
    start = pause.allowed(_new_starts(counts, settings, need), len(counts.starting), now)
    history, leaving = _leaving(counts, snapshot, settings, history, need, now)
    is_hopeless = pause.hopeless and now < pause.until and settings.gives_up
    give_up = is_hopeless and bool(counts.backlog) and not counts.live
    gone = len(leaving.drain) + len(leaving.retire)
    size = max(need, len(counts.live) + start - gone, settings.min_containers)
    why, reason = _reason(counts, need, start, leaving, pause, now)
    if why == "enough":
        why, reason = _why_enough(counts, wanted, need, settings, history, now)
    return Decision(
        history=history,
        desired=settings.capped(size),
        start=start,
        drain=_ids(leaving.drain),
        retire=_ids(leaving.retire),
        retry_at=_retry_at(counts, snapshot, settings, history, pause, now),
        reason=reason,
        why=why,
        give_up=give_up,
    )


def _paused(history: PoolHistory, counts: PoolCounts) -> Decision:
    """The decision for a pool that a person has paused: what runs may end, and nothing starts."""
    waiting = f": {counts.backlog} inputs wait" if counts.backlog else ""
    return Decision(
        history=history,
        desired=0,
        drain=tuple(c.id for c in counts.starting),
        # Also those that seem idle: one may have claimed an input since.
        retire=tuple(c.id for c in counts.ready),
        reason=f"the pool is paused{waiting}",
        why="paused",
    )


def serves_alone(snapshot: PoolSnapshot, decision: Decision, settings: PoolSettings) -> bool:
    """Whether one new input would be served by a ready container without any scaling action."""
    is_steady = not (decision.start or decision.drain or decision.retire)
    is_ready = any(container.state == "ready" for container in snapshot.containers)
    return is_steady and is_ready and not settings.buffer_containers


def _observe(
    history: PoolHistory,
    snapshot: PoolSnapshot,
    counts: PoolCounts,
    settings: PoolSettings,
    now: float,
) -> PoolHistory:
    """The history with this snapshot taken in."""
    idle = [c.idle_seconds for c in counts.ready if c.running == 0]
    ended = min(now, max(history.peak.seen, now - min(idle, default=0.0)))
    # Ready containers for which inputs wait count as busy: short inputs are over before the next look,
    # and their containers would never be seen busy.
    level = max(counts.busy, min(len(counts.ready), counts.hard))
    quiet_since = math.inf if counts.demand else history.quiet_since
    if not counts.demand and history.quiet_since == math.inf:
        quiet_since = ended
    settled = snapshot.submitted - snapshot.inflight
    moved = settled != history.settled or counts.running == 0
    return replace(
        history,
        peak=history.peak.observe(level, ended=ended, now=now, width=settings.scaledown_window),
        arrivals=history.arrivals.observe(snapshot.submitted, now),
        quiet_since=quiet_since,
        settled=settled,
        progress_at=now if moved else history.progress_at,
    )


def _new_starts(counts: PoolCounts, settings: PoolSettings, need: int) -> int:
    """The starts that lead to `need` current containers; draining ones count for max_containers."""
    wanted = max(0, need - counts.current)
    return max(0, settings.capped(counts.alive + wanted) - counts.alive)


def _leaving(
    counts: PoolCounts,
    snapshot: PoolSnapshot,
    settings: PoolSettings,
    history: PoolHistory,
    need: int,
    now: float,
) -> tuple[PoolHistory, Rollout]:
    """The containers to drain and retire, within what one step down may take."""
    failing = bool(snapshot.failures)
    old = outgoing(counts, need, settings, history, failing=failing, now=now)
    chosen = {c.id: c for c in old.drain}
    # Old code gives way without any history: held back with the rest, it answered calls for ten
    # seconds after a deploy.
    if now >= history.held_until(settings):
        chosen |= {c.id: c for c in scale_down.surplus(counts, snapshot, settings, history, now)}
        chosen |= {
            c.id: c for c in scale_down.excess(counts, settings, [*chosen, *_ids(old.retire)])
        }
    step = scale_down.next_step(history.step, len(counts.live), now)
    drain = list(chosen.values())[: max(0, scale_down.allowance(step))]
    if drain:
        history = replace(history, step=replace(step, taken=step.taken + len(drain)))
    return history, Rollout(drain=drain, retire=old.retire)


def _retry_at(
    counts: PoolCounts,
    snapshot: PoolSnapshot,
    settings: PoolSettings,
    history: PoolHistory,
    pause: start_backoff.StartBackoff,
    now: float,
) -> float | None:
    """The next moment at which time alone may change the decision."""
    moments = [pause.until]
    if history.blocked_since is not None:
        moments.append(history.blocked_since + BLOCKED_SECONDS)
    if settings.scaleup_window:
        rise = history.least.next_rise(now, settings.scaleup_window)
        moments.append(math.inf if rise is None else rise)
    if len(counts.live) > settings.min_containers or counts.current < len(counts.live):
        fall = history.peak.next_fall(now, settings.scaledown_window)
        moments += [history.held_until(settings), history.active_until(settings)]
        moments += [
            history.step.began + scale_down.STEP_SECONDS,
            math.inf if fall is None else fall,
        ]
        grace = scale_down.unused_grace(snapshot, settings)
        moments += [scale_down.evidence_at(c, grace, now) for c in counts.ready if c.running == 0]
        for boot in counts.starting:
            moments += scale_down.boot_moments(boot, snapshot, settings)
    return min((moment for moment in moments if now < moment < math.inf), default=None)


def _ids(containers: list[ContainerView]) -> tuple[str, ...]:
    return tuple(c.id for c in containers)


def _reason(
    counts: PoolCounts,
    need: int,
    start: int,
    leaving: Rollout,
    pause: start_backoff.StartBackoff,
    now: float,
) -> tuple[Why, str]:
    """The kind of the reason, and one short sentence that gives it to people."""
    if leaving.drain or leaving.retire:
        return _why_fewer(counts, leaving)
    if start < need - counts.current:
        return _why_not(need - counts.current, start, pause, now)
    if not start:
        return "enough", ""
    if counts.current < len(counts.live):
        return "new_version", f"{start} containers of the current version replace older ones"
    if counts.waiting:
        waiting = f"{counts.waiting} inputs wait for {len(counts.live)} containers"
        return "backlog", f"{waiting}: {start} more"
    return "minimum", f"{start} more containers for the minimum or the buffer"


def _why_enough(
    counts: PoolCounts,
    wanted: int,
    need: int,
    settings: PoolSettings,
    history: PoolHistory,
    now: float,
) -> tuple[Why, str]:
    """Why nothing changes, although the pool may want more than it may have, or have more than it wants."""
    size = len(counts.live)
    if wanted > need:
        return _why_no_more(wanted, need, settings)
    if size <= need:
        return "enough", f"{size} containers are enough"
    more = f"{size} containers are kept, {need} would do"
    if now < history.held_until(settings):
        return "enough", f"{more}: nothing ends before more is known of the pool"
    if counts.backlog:
        return "enough", f"{more}: nothing ends while inputs wait"
    if scale_down.kept(counts, settings, history, now) >= size:
        window = f"{settings.scaledown_window:g} s"
        return "enough", f"{more}: so many were busy within {window}, or are the buffer"
    return "enough", f"{more}: some run inputs, or were started a short while ago"


def _why_no_more(wanted: int, need: int, settings: PoolSettings) -> tuple[Why, str]:
    more = f"{wanted} containers are needed"
    if need < settings.capped(wanted):
        window = f"until that has been so for {settings.scaleup_window:g} s"
        return "scaleup_window", f"{more}: it stays at {need} {window}"
    return "maximum", f"{more}, max_containers allows {need}"


def _why_fewer(counts: PoolCounts, leaving: Rollout) -> tuple[Why, str]:
    gone = len(leaving.drain) + len(leaving.retire)
    if any(not c.version_current for c in [*leaving.drain, *leaving.retire]):
        return "new_version", f"{gone} containers of an older version give way"
    left = len(counts.live) - gone
    return "fewer", f"{left} containers cover the recent peak: {gone} fewer"


def _why_not(
    wanted: int, start: int, pause: start_backoff.StartBackoff, now: float
) -> tuple[Why, str]:
    if now < pause.until:
        wait = pause.until - now
        text = f"{pause.failures} starts in a row failed: the next may follow in {wait:.1f} s"
        return "failed_starts", text
    if pause.failures >= 2:
        return "failed_starts", f"{pause.failures} starts in a row failed: one container at a time"
    text = f"{wanted} more containers are needed, max_containers leaves room for {start}"
    return "maximum", text
