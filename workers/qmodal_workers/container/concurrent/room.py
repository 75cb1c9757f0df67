"""The room of a container: how many groups it may run, and which rows of its table are in use."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable

from qmodal.spec.options import FunctionOptions
from qmodal_workers.ipc.running_table import MOST_ROWS

# What is expected to start within this time is claimed ahead of it: a slot that becomes free has the next
# input at hand.
AHEAD_SECONDS = 0.012
# Groups that take longer than this are not expected to end at any particular moment.
LONG_SECONDS = 0.25
# After something that did not start soon, nothing is claimed ahead for so long.
REST_SECONDS = 1.0


class Room:
    """Counts groups that were claimed and have not ended; shared by the claimer, the loop and the settler.

    `most` may run at once, and the autoscaler aims at `target`. A container that has reached the
    target leaves what comes to others that have not. What has ended and is not written yet takes up
    rows, too: while the server is behind, at most as many inputs wait for it as may run.

    While groups are short there is room for some more than may run, which wait for their turn: as many as end
    within AHEAD_SECONDS, at most a quarter.
    """

    def __init__(
        self, options: FunctionOptions, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.batch = options.max_batch_size or 1
        self.most = max(1, min(options.max_inputs, MOST_ROWS // self.batch))
        if options.single_use_containers:
            self.most = 1
        self._target = min(options.target_inputs, self.most)
        self._rows = min(MOST_ROWS, 2 * self.most * self.batch)
        self._changed = threading.Condition()
        self._taken = 0
        self._unwritten = 0  # inputs
        self._is_eager = self._target == self.most and options.is_concurrent
        self._is_eager &= not (options.is_once or options.single_use_containers)
        self._clock = clock
        self._seconds = LONG_SECONDS  # that a group takes, on the average
        self._rests_until = 0.0
        self._is_closed = False

    @property
    def taken(self) -> int:
        """Groups that were claimed and have not ended."""
        return self._taken

    @property
    def free(self) -> int:
        """Groups that may be claimed now."""
        rows = (self._rows - self._unwritten) // self.batch
        most = min(self.most + self._ahead, rows)
        return 0 if self._is_closed else max(0, most - self._taken)

    @property
    def is_full(self) -> bool:
        """Whether as many run as may: what is claimed now is ahead of its turn."""
        return self._taken >= self.most

    @property
    def piece(self) -> int:
        """Groups to claim at a time: the first ones run while the others are on their way."""
        return max(1, self.most // 8)

    @property
    def patience(self) -> float:
        """Seconds that a group may wait for its turn."""
        return min(max(AHEAD_SECONDS * 2, 1.5 * self._seconds), 0.1)

    @property
    def target(self) -> int:
        """Groups from which on it leaves to other containers what comes."""
        return self._target + self._ahead

    @property
    def _ahead(self) -> int:
        if not self._is_eager or self._seconds >= LONG_SECONDS or self._clock() < self._rests_until:
            return 0
        return min(int(self.most * AHEAD_SECONDS / self._seconds), max(1, self.most // 4))

    def take(self, groups: int) -> None:
        """So many more were claimed."""
        with self._changed:
            self._taken += groups

    def give_back(self, groups: int) -> None:
        """So many will have no outcome here."""
        with self._changed:
            self._taken -= groups
            self._changed.notify_all()

    def ended(self, inputs: int, groups: int = 1, seconds: float = 0.0) -> None:
        """So many inputs have ended, which were those groups, and their outcomes are not written yet.

        `seconds`: how long the last of them took.
        """
        with self._changed:
            self._seconds += (max(seconds, 1e-6) - self._seconds) / 4
            self._taken -= groups
            self._unwritten += inputs
            self._changed.notify_all()

    def written(self, inputs: int) -> None:
        """The outcomes of so many inputs are written."""
        with self._changed:
            self._unwritten -= inputs
            self._changed.notify_all()

    def rest(self) -> None:
        """What was claimed ahead could not start: nothing is for a while."""
        self._rests_until = self._clock() + REST_SECONDS

    def wait(self, seconds: float) -> int:
        """Groups that may be claimed now; waits for the first, for so long at the most."""
        with self._changed:
            self._changed.wait_for(lambda: self.free > 0 or self._is_closed, seconds)
            return self.free

    def wait_empty(self, seconds: float) -> bool:
        """Whether nothing runs; waits for that, for so long at the most."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken == 0 or self._is_closed, seconds)
            return self._taken == 0

    def pause(self, seconds: float) -> None:
        """Wait so long, or until a group has ended."""
        with self._changed:
            before = self._taken
            self._changed.wait_for(lambda: self._taken < before or self._is_closed, seconds)

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
