"""The room of a container: how many groups it may run, and which rows of its table are in use."""

from __future__ import annotations

import heapq
import threading
import time

from qmodal.spec.options import FunctionOptions
from qmodal_workers.ipc.running_table import MOST_ROWS


class Room:
    """Counts groups that were claimed and have not ended; shared by the claimer and the loop.

    `most` may run at once, and the autoscaler aims at `target`. A container that has reached the
    target leaves what comes to others that have not.
    """

    def __init__(self, options: FunctionOptions) -> None:
        self.batch = options.max_batch_size or 1
        self.most = max(1, min(options.max_inputs, MOST_ROWS // self.batch))
        self.target = min(options.target_inputs, self.most)
        self._changed = threading.Condition()
        self._taken = 0
        self._is_closed = False

    @property
    def taken(self) -> int:
        """Groups that were claimed and have not ended."""
        return self._taken

    def take(self, groups: int) -> None:
        """So many more were claimed."""
        with self._changed:
            self._taken += groups

    def give_back(self, groups: int) -> None:
        """So many have ended, or were given back."""
        with self._changed:
            self._taken -= groups
            self._changed.notify_all()

    def wait(self, seconds: float) -> int:
        """Groups that may be claimed now; waits for the first, for so long at the most."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken < self.most or self._is_closed, seconds)
            return 0 if self._is_closed else self.most - self._taken

    def pause(self, seconds: float) -> None:
        """Wait so long, or until a group has ended."""
        ends, before = time.monotonic() + seconds, self._taken
        with self._changed:
            self._changed.wait_for(
                lambda: self._taken < before or self._is_closed, ends - time.monotonic()
            )

    def close(self) -> None:
        """Nothing is claimed any more: whoever waits goes on."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


class Rows:
    """The numbers of free rows, lowest first; `used` is one more than the highest that ever was in use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[int] = []
        self.used = 0

    def take(self, count: int) -> list[int]:
        """So many free rows; there are enough, as `Room` sees to it."""
        with self._lock:
            return [self._take() for _ in range(count)]

    def _take(self) -> int:
        if self._free:
            return heapq.heappop(self._free)
        self.used += 1
        return self.used - 1

    def give_back(self, rows: list[int]) -> None:
        """They are free again."""
        with self._lock:
            for row in rows:
                heapq.heappush(self._free, row)
