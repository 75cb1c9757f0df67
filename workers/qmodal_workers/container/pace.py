"""How many inputs to claim at once: one, unless they are much shorter than a round trip."""

from __future__ import annotations

import time
from collections import deque

from qmodal.store.exchange import Command
from qmodal.store.pools import MOST_CLAIMED

WORTH_SECONDS = 0.005
RECENT = 16
# Of so many, this one by length: one that had to wait for a processor says nothing of the rest, and
# what is claimed behind a long one is given back.
USUAL = 12
SHORT_SECONDS = 0.0005
PACKS_SECONDS = 0.010
REPORT_SECONDS = 2.0


class Pace:
    """Learns from the slower ones of the recent inputs, so that a long kind is not averaged away.

    `most`: never more at once than that.
    """

    def __init__(self, most: int = MOST_CLAIMED) -> None:
        self._most = most
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._size = 1
        self._told = 0.0
        self.service_time: float | None = None

    def ran(self, seconds: float, inputs: int = 1) -> None:
        """An entry with that many inputs took that long."""
        self._recent.append(seconds)
        self._size = inputs
        before, each = self.service_time, seconds / inputs
        self.service_time = each if before is None else before + 0.1 * (each - before)

    def news(self, key: str) -> tuple[Command, ...]:
        """Now and then what the pool learns of its inputs' times, for a write that goes anyway."""
        now = time.monotonic()
        if self.service_time is None or now - self._told < REPORT_SECONDS:
            return ()
        self._told = now
        return ((b"HSET", key, b"service_time", round(self.service_time, 6)),)

    def count(self, inflight: int) -> int:
        """Entries to claim next, given the inputs in flight in the pool; leaves others something."""
        if len(self._recent) < RECENT:
            return 1
        usual = self._usual()
        if self._size > 1:  # nobody packs inputs of which some are long
            return max(1, min(int(PACKS_SECONDS / usual), self._most, inflight // (4 * self._size)))
        if usual > SHORT_SECONDS:
            return 1
        return max(1, min(int(WORTH_SECONDS / usual), self._most, inflight // 2))

    def ahead(self, inflight: int) -> int:
        """Entries to claim before the last ones have run: 0 unless they are short, and many wait."""
        count = self.count(inflight)
        if count > 1:
            return count
        are_packs = self._size > 1 and len(self._recent) == RECENT
        return int(are_packs and inflight > 4 * self._size and self._usual() < PACKS_SECONDS)

    def _usual(self) -> float:
        return max(sorted(self._recent)[USUAL], 1e-6)
