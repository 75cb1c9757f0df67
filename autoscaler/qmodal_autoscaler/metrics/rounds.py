"""How long a leader's rounds take, as a histogram."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric

# Ends of the buckets in seconds; one more is for what takes longer.
BOUNDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


@dataclass(slots=True)
class _Counted:
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    seconds: float = 0.0


class RoundTimes:
    """The rounds of one autoscaler, over all its leaderships; those over all pools apart from the others."""

    def __init__(self) -> None:
        self._counted = {"all": _Counted(), "due": _Counted()}

    def add(self, seconds: float, is_full: bool) -> None:
        """Count one round; `is_full`: it was over all pools."""
        counted = self._counted["all" if is_full else "due"]
        counted.buckets[bisect.bisect_left(BOUNDS, seconds)] += 1
        counted.seconds += seconds

    def family(self) -> Metric:
        """The histogram."""
        found = HistogramMetricFamily(
            "qmodal_round_seconds",
            "Rounds of the leader: from the look at pools until what follows from it is written.",
            labels=("pools",),
        )
        ends = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]
        for pools, counted in self._counted.items():
            buckets = zip(ends, accumulate(counted.buckets), strict=True)
            found.add_metric((pools,), list(buckets), counted.seconds)
        return found
