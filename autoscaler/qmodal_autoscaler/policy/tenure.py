"""Tenure: how long a container keeps its place while other pools wait, so that its start was worth it."""

from __future__ import annotations

import math

# A busy container keeps its place for that many times as long as it took to start, within these limits.
WORTH_STARTS = 10.0
SHORTEST_BUSY_SECONDS, LONGEST_BUSY_SECONDS = 1.0, 60.0
# The longest time for which others wait because what a pool has left is nearly done.
LONGEST_FINISH_SECONDS = 10.0
# With more inputs to come than that while it finishes, a pool is not about to have nothing left.
FEW_ARRIVALS = 0.5


def busy_tenure(start: float) -> float:
    """Seconds since it was ready for which a busy container keeps its place; `start`: what its start took."""
    return min(LONGEST_BUSY_SECONDS, max(SHORTEST_BUSY_SECONDS, WORTH_STARTS * start))


def remaining_seconds(
    *, waiting: int, service: float | None, slots: int, containers: int, per_second: float
) -> float:
    """How long the containers of a pool take to begin what waits in it; infinite if inputs keep coming.

    `service` is the learned time of an input, `per_second` the rate of arrivals.
    """
    if service is None or not containers:
        return math.inf
    seconds = waiting * service / (containers * slots)
    return math.inf if per_second * (seconds + service) > FEW_ARRIVALS else seconds


def is_worth_finishing(remaining: float, *, start: float, service: float | None) -> bool:
    """Whether a pool should keep its containers until nothing waits in it any more.

    That takes no longer than another start would, or than a single input: who waits for the place gains no more than
    is lost by starting again for so little. When nothing waits any more there is nothing to start again for.
    """
    return 0 < remaining <= min(LONGEST_FINISH_SECONDS, max(start, service or 0.0))
