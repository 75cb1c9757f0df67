"""Backoff of starts that fail: when a pool may try again, and when it should give up."""

from __future__ import annotations

import math
from typing import NamedTuple

# Between probes of a pool that never starts.
LONGEST_PAUSE_SECONDS = 300.0
# By this share a pause is shorter or longer.
JITTER = 0.2
# Failures after which a pool is given up; those of a deployed app must also span some time, so that it
# survives a short outage of what it imports.
EPHEMERAL_FAILURES = 3
DEPLOYED_FAILURES = 5
DEPLOYED_SPAN_SECONDS = 30.0
# A pool stays given up at least this long, because reports of failures arrive late.
SHORTEST_GIVE_UP_SECONDS = 10.0


class StartBackoff(NamedTuple):
    """The number of consecutive failed starts, and the moment `until` which no other is allowed.

    `hopeless`: so many have failed that until then callers should be told instead of waiting.
    """

    failures: int
    until: float
    hopeless: bool

    def allowed(self, starts: int, starting: int, now: float) -> int:
        """How many of `starts` may go ahead: after two failures one probe at a time."""
        if now < self.until:
            return 0
        return min(starts, max(0, 1 - starting)) if self.failures >= 2 else starts


def backoff(failures: tuple[float, ...], *, ephemeral: bool = False) -> StartBackoff:
    """The pause after these failures (their times, oldest first).

    Containers started together fail together, and that is one failed try, not fifty: counting
    each made a map's first broken import wait five minutes for its second try.
    """
    rounds, until = 0, -math.inf
    for failed in failures:
        if failed >= until:
            rounds += 1
            until = failed + _pause(rounds, failed)
    hopeless = _hopeless(failures, ephemeral=ephemeral)
    if hopeless:
        until = max(until, failures[-1] + SHORTEST_GIVE_UP_SECONDS)
    return StartBackoff(failures=len(failures), until=until, hopeless=hopeless)


def _hopeless(failures: tuple[float, ...], *, ephemeral: bool) -> bool:
    if ephemeral:
        return len(failures) >= EPHEMERAL_FAILURES
    return (
        len(failures) >= DEPLOYED_FAILURES and failures[-1] - failures[0] >= DEPLOYED_SPAN_SECONDS
    )


def _pause(rounds: int, failed: float) -> float:
    """Doubling seconds, spread by the fraction of the moment so that pools do not probe in step."""
    spread = math.modf(abs(failed) * 997.0)[0]
    pause = min(LONGEST_PAUSE_SECONDS, math.ldexp(1.0, min(rounds, 16) - 1))
    return pause * (1 - JITTER + 2 * JITTER * spread)
