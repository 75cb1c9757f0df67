"""How many entries to claim at once: one, unless they are much shorter than a round trip."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from qmodal.spec.pack_size import LONG_MICROSECONDS, Variation
from qmodal.store.pools import MOST_HELD, Pools
from qmodal.transport.operation import Command, Reply

# Single inputs that take this long together are claimed at once, if each takes at most SHORT_SECONDS.
WORTH_SECONDS = 0.005
SHORT_SECONDS = 0.0005
# A claim takes at most half of what a container may hold: the other half is for the prefetch.
MOST_CLAIMED = MOST_HELD // 2
# The usual time is number USUAL, from 0 on, of the RECENT last ones in rising order. The longest ones are
# left out: they had to wait for a processor, and what is claimed behind a long one is given back.
RECENT, USUAL = 16, 12
# Packs that take this long together are claimed at once; one is prefetched if it takes no longer than
# LONGEST_PREFETCHED_SECONDS.
PACKS_SECONDS, LONGEST_PREFETCHED_SECONDS = 0.010, 0.015
# For an entry that takes less, preparing the next one in another thread costs more than it saves.
UNHURRIED_SECONDS = 0.002
# A claim that brings so many single inputs says that many callers are at work; so do the next claims, unless so many of
# them bring fewer.
MANY, CLAIMS_FOR_MANY = 4, 8
# Between two reports to the server.
REPORT_SECONDS = 0.5


class ClaimSizer:
    """Sizes claims by the slower ones of the recent entries, so that a long kind is not averaged away.

    `most`: entries of the largest claim. `service_time`: seconds that an input takes, smoothed; None at
    first.
    """

    def __init__(self, most: int = MOST_CLAIMED) -> None:
        self._most = most
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._size = 1  # inputs in the last entry
        self._reported = 0.0
        self._sharing = 1  # containers that claim from the pool, this one included
        self._variation = Variation()
        self._for_many = 0  # claims that are for many callers, unless they say otherwise
        self.service_time: float | None = None

    def ran(self, seconds: float, inputs: int = 1) -> None:
        """Take in that an entry with that many inputs took so many seconds."""
        self._recent.append(seconds)
        self._size = inputs
        before, each = self.service_time, seconds / inputs
        is_long = seconds * 1e6 > LONG_MICROSECONDS
        if (is_long or self._variation.is_wide) and len(self._recent) == RECENT:  # seldom: it sorts
            self._variation.ran(each * 1e6, self._usual() * 1e6 / inputs, inputs)
        self.service_time = each if before is None else before + 0.1 * (each - before)

    def report_commands(self, pools: Pools, pool: str) -> tuple[Command, ...]:
        """Commands to add to the next write, twice a second: ask how many claim, report the service time."""
        now = time.monotonic()
        if now - self._reported < REPORT_SECONDS:
            return ()
        self._reported = now
        asking = pools.sharing_command(pool)
        if self.service_time is None:
            return (asking,)
        return asking, pools.learn_command(pool, self.service_time)

    def take_replies(self, replies: Sequence[Reply]) -> None:
        """Take in the replies to `report_commands`."""
        if replies:
            self._sharing = Pools.parse_sharing(replies[0])

    def count(self, inflight: int) -> int:
        """Entries to claim next, given the inputs in flight in the pool.

        At most half of an equal share, if others claim from it, too.
        """
        share = inflight // (2 * self._sharing * self._size)
        # First of all, as nearly always for one call after another: the rest sorts.
        if share <= 1 or len(self._recent) < RECENT or self._variation.is_wide:
            return 1
        usual = self._usual()
        if self._size > 1:  # nobody packs inputs of which some are long
            return max(1, min(int(PACKS_SECONDS / usual), self._most, share))
        if usual > SHORT_SECONDS:
            return 1
        # Alone it takes what it finds: nobody else claims, and the count is that of the last settle.
        most = self._most if self._sharing == 1 else min(self._most, share)
        return max(1, min(int(WORTH_SECONDS / usual), most))

    def found(self, entries: int) -> None:
        """Take in that a claim has brought so many entries."""
        if entries >= MANY and self._size == 1:
            self._for_many = CLAIMS_FOR_MANY
        elif self._for_many and entries:
            self._for_many -= 1

    @property
    def serves_many(self) -> bool:
        """Whether single inputs come from many callers, who submit several at once."""
        return self._for_many > 0

    def waiting(self) -> int:
        """Entries that a claim takes which waits for the first of them: one, so that a burst spreads.

        What many callers submit at once it takes together, if nobody else claims and all of it is short.
        """
        is_alone = self._for_many and self._sharing == 1 and len(self._recent) == RECENT
        if not is_alone or self._variation.is_wide:
            return 1
        usual = self._usual()
        return 1 if usual > SHORT_SECONDS else max(1, min(int(WORTH_SECONDS / usual), self._most))

    def beside(self) -> int:
        """Entries to prefetch since outcomes have to be sent anyway: 0 unless many callers submit more meanwhile."""
        count = self.waiting()
        return count if count > 1 else 0

    def low(self, claimed: int) -> int:
        """How many of the claimed entries are left when the next ones are asked for.

        Of packs early, so that these have been read by then. Single inputs come from many callers, who
        submit more when they have their results: the later, the more are claimed and settled at once.
        """
        return claimed * 3 // 4 if self._size > 1 else claimed // 4

    def ahead(self, inflight: int) -> int:
        """Entries to prefetch while the last ones run: 0 unless they are short, and many wait."""
        count = self.count(inflight)
        if count > 1:
            return count
        if inflight <= 2 * self._sharing * self._size or self._variation.is_wide:
            return 0
        are_packs = self._size > 1 and len(self._recent) == RECENT
        return int(are_packs and self._usual() < LONGEST_PREFETCHED_SECONDS)

    @property
    def leaves_time(self) -> bool:
        """Whether an entry usually takes so long that the next one can be made ready meanwhile."""
        return self._size > 1 and self._usual() > UNHURRIED_SECONDS

    def _usual(self) -> float:
        return max(sorted(self._recent)[USUAL], 1e-6)
