"""How many requests of a pool wait: looked at once a second, and counted on in between."""

from __future__ import annotations

from qmodal.store.watch.observing import Observation

LOOK_SECONDS = 1.0


class PoolLoad:
    """The queue of one pool as one gateway sees it.

    `open`: requests of this gateway that are under way.
    """

    __slots__ = ("_open_then", "_room", "_waiting", "capacity", "is_looking", "looked_at", "open")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.open = 0
        self.is_looking = False
        self.looked_at = -LOOK_SECONDS
        self._waiting = self._open_then = self._room = 0

    @property
    def waiting(self) -> int:
        """About how many inputs of the pool wait for a container."""
        # What this gateway has more under way than at the last look waits, unless containers had room for it.
        return self._waiting + max(0, self.open - self._open_then - self._room)

    def is_due(self, now: float) -> bool:
        """Whether somebody should look; `now` in seconds of the loop's clock."""
        return now - self.looked_at >= LOOK_SECONDS and not self.is_looking

    def look(self, observation: Observation | None) -> None:
        """Take in what was seen; None if the pool is not known."""
        self._open_then = self.open
        if observation is None:
            self._waiting = self._room = 0
            return
        running = observation.running(self.capacity)
        self._waiting = max(0, observation.inflight - running)
        self._room = max(0, len(observation.consumers) * self.capacity - running)
