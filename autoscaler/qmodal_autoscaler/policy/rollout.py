"""The rollout of a new code version: which containers of older ones give way, and when."""

from __future__ import annotations

from dataclasses import dataclass, field

from qmodal_autoscaler.policy.scale_down import victims
from qmodal_autoscaler.policy.state import ContainerView, PoolCounts, PoolHistory, PoolSettings

# If there was no room for a current container for this long, an old one must make room.
BLOCKED_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A step of a rollout: old containers to stop now, and busy ones that should claim nothing new."""

    drain: list[ContainerView] = field(default_factory=list)
    retire: list[ContainerView] = field(default_factory=list)


def blocked_since(counts: PoolCounts, need: int, history: PoolHistory, now: float) -> float | None:
    """Since when old containers have taken the room of current ones; None if they do not, or make room now."""
    old = any(not c.version_current for c in counts.ready)
    moving = counts.alive > len(counts.live) or any(c.version_current for c in counts.starting)
    if not old or moving or need <= counts.current:
        return None
    return now if history.blocked_since is None else history.blocked_since


def outgoing(
    counts: PoolCounts,
    need: int,
    settings: PoolSettings,
    history: PoolHistory,
    *,
    failing: bool,
    now: float,
) -> Rollout:
    """The next step of a rollout.

    Old containers go as current ones become ready, one for one, so a deploy costs no capacity; all
    idle ones go at once when nothing is waiting or running. With no room for both versions one old
    container at a time makes room. While the current version fails to start, the old one stays.
    """
    boots = [c for c in counts.starting if not c.version_current]
    old = [c for c in counts.ready if not c.version_current]
    if failing or not old:
        return Rollout(drain=boots)
    useful = max(0, need - sum(c.version_current for c in counts.ready)) if counts.demand else 0
    if _must_make_room(counts, settings, history, now):
        useful = min(useful, len(old) - 1)
    leaving = max(0, len(old) - useful)
    idle = victims([c for c in old if c.running == 0], counts.live)
    busy = sorted((c for c in old if c.running), key=lambda c: (c.since, c.id))
    return Rollout(drain=boots + idle[:leaving], retire=busy[: max(0, leaving - len(idle))])


def _must_make_room(
    counts: PoolCounts, settings: PoolSettings, history: PoolHistory, now: float
) -> bool:
    if history.blocked_since is None:
        return False
    full = settings.capped(counts.alive + 1) <= counts.alive
    return full or now >= history.blocked_since + BLOCKED_SECONDS
