"""What a control process counts of itself, for its metrics."""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import dataclass, field

# Upper ends of the buckets of lateness, in seconds; one more bucket has what was later.
LATE_BOUNDS = (0.1, 0.25, 0.5, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
# A slot that became a call later than this is a late one.
LATE_SECONDS = 5.0


@dataclass(slots=True)
class ControlFigures:
    """Counts of one process, which several threads add to."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(LATE_BOUNDS) + 1))
    seconds: float = 0.0
    late: int = 0
    failed_jobs: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fired(self, lateness: float) -> None:
        """A slot became a call so many seconds after it was due."""
        with self.lock:
            self.buckets[bisect_left(LATE_BOUNDS, lateness)] += 1
            self.seconds += lateness
            self.late += lateness > LATE_SECONDS

    def failed(self) -> None:
        """A job has failed."""
        with self.lock:
            self.failed_jobs += 1
