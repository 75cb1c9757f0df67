"""How many inputs to claim at once: one, unless they are much shorter than a round trip."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from qmodal.store.pools import MOST_HELD, Pools
from qmodal.transport.operation import Command, Reply

WORTH_SECONDS = 0.005
RECENT = 16
# As many may be claimed ahead.
MOST_CLAIMED = MOST_HELD // 2
# Of so many, this one by length: one that had to wait for a processor says nothing of the rest, and
# what is claimed behind a long one is given back.
USUAL = 12
SHORT_SECONDS = 0.0005
# Packs are claimed for so long a time, and one ahead if it is not longer than that.
PACKS_SECONDS, LONGEST_AHEAD = 0.010, 0.015
# What another thread does meanwhile costs more than it saves if the entry takes less.
UNHURRIED_SECONDS = 0.002
REPORT_SECONDS = 0.5


class ClaimSizer:
    """Learns from the slower ones of the recent inputs, so that a long kind is not averaged away.

    `most`: never more at once than that.
    """

    def __init__(self, most: int = MOST_CLAIMED) -> None:
        self._most = most
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._size = 1
        self._told = 0.0
        self._sharing = 1
        self.service_time: float | None = None

    def ran(self, seconds: float, inputs: int = 1) -> None:
        """An entry with that many inputs took that long."""
        self._recent.append(seconds)
        self._size = inputs
        before, each = self.service_time, seconds / inputs
        self.service_time = each if before is None else before + 0.1 * (each - before)

    def news(self, pools: Pools, pool: str) -> tuple[Command, ...]:
        """For a write that goes anyway, now and then: who else claims, and what inputs take here."""
        now = time.monotonic()
        if now - self._told < REPORT_SECONDS:
            return ()
        self._told = now
        asking = pools.sharing_command(pool)
        if self.service_time is None:
            return (asking,)
        return asking, pools.learn_command(pool, self.service_time)

    def hear(self, replies: Sequence[Reply]) -> None:
        """What was answered to `news`."""
        if replies:
            self._sharing = Pools.parse_sharing(replies[0])

    def count(self, inflight: int) -> int:
        """Entries to claim next, given the inputs in flight in the pool; leaves others something."""
        if len(self._recent) < RECENT:
            return 1
        usual = self._usual()
        share = inflight // (2 * self._sharing * self._size)
        if self._size > 1:  # nobody packs inputs of which some are long
            return max(1, min(int(PACKS_SECONDS / usual), self._most, share))
        if usual > SHORT_SECONDS:
            return 1
        return max(1, min(int(WORTH_SECONDS / usual), self._most, share))

    def ahead(self, inflight: int) -> int:
        """Entries to claim before the last ones have run: 0 unless they are short, and many wait."""
        count = self.count(inflight)
        if count > 1:
            return count
        are_packs = self._size > 1 and len(self._recent) == RECENT
        has_share = inflight > 2 * self._sharing * self._size
        return int(are_packs and has_share and self._usual() < LONGEST_AHEAD)

    @property
    def leaves_time(self) -> bool:
        """Whether an entry usually takes so long that the next one can be made ready meanwhile."""
        return self._size > 1 and self._usual() > UNHURRIED_SECONDS

    def _usual(self) -> float:
        return max(sorted(self._recent)[USUAL], 1e-6)
