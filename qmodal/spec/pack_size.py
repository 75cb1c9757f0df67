"""How many inputs of a map travel in one entry: as many as run in a few milliseconds.

A pack saves what an entry costs on both sides and on the server. It is sized by the slower ones of
what has ended lately (an input, or the average of those that ended together), so that nothing waits
long behind another one; a container takes it apart again when inputs turn out to be slower.
"""

from __future__ import annotations

from collections import deque

from qmodal.spec.options import FunctionOptions

WORTH_MICROSECONDS = 10000
# No output is for more than 999.
MOST_IN_PACK = 900
RECENT_OUTCOMES = 16
MOST_LEARNED_POOLS = 1000
# A map is at least so many packs: there are containers for all of them, and these inputs may take
# longer than those before them did.
LEAST_PACKS = 16
# Of so many, this one by length: three in four are not longer. Now and then one that had to wait for
# a processor says nothing of the rest.
USUAL_RANK = 12
# An input is a long one if it takes LONG_MICROSECONDS, more than one that had to wait for a processor, and so
# many times what is usual.
LONG_MICROSECONDS = 50_000
LONG_TIMES = 8
# After a long one so many inputs have to end before the pool counts as even again.
REMEMBERED_INPUTS = 1000


class Variation:
    """Watches the times of inputs as they end; `is_wide` for a while after a long one among short ones.

    Then nothing short may wait behind another input. An attribute, as it is asked for with each input.
    """

    __slots__ = ("_left", "is_wide")

    def __init__(self) -> None:
        self._left = 0
        self.is_wide = False

    def ran(self, microseconds: float, usual: float, inputs: int = 1) -> None:
        """So many inputs have ended that took that long each, where `usual` microseconds are usual."""
        if microseconds >= LONG_MICROSECONDS and microseconds >= LONG_TIMES * usual:
            self._left = REMEMBERED_INPUTS
        elif self._left:
            self._left = max(0, self._left - inputs)
        self.is_wide = self._left > 0


def is_packable(options: FunctionOptions) -> bool:
    """Whether several inputs of this function may share an entry.

    Not if each has to have a container of its own, nor if none may run twice: what has ended in a
    pack runs again when the container dies before the whole of it is written. Nor if they run side
    by side: those of a pack run one after another.
    """
    return not (options.is_once or options.single_use_containers or options.is_concurrent)


class PoolTimes:
    """Times of the last outcomes of a pool, in µs, and whether they vary widely."""

    __slots__ = ("recent", "variation")

    def __init__(self) -> None:
        self.recent: deque[int] = deque(maxlen=RECENT_OUTCOMES)
        self.variation = Variation()

    @property
    def usual(self) -> int:
        """What three in four inputs do not exceed, once RECENT_OUTCOMES have ended."""
        return sorted(self.recent)[USUAL_RANK]


class PackTimes:
    """Times of the pools that this process has seen outcomes of."""

    __slots__ = ("_pools",)

    def __init__(self) -> None:
        self._pools: dict[str, PoolTimes] = {}

    def of(self, pool: str) -> PoolTimes:
        """Of that pool; shared by all who add to it."""
        if len(self._pools) >= MOST_LEARNED_POOLS and pool not in self._pools:
            self._pools.clear()
        return self._pools.setdefault(pool, PoolTimes())


class PackSizer:
    """Learns from outcomes, and says how many inputs to put into an entry."""

    __slots__ = ("_inputs", "_is_allowed", "_recent", "_times")

    def __init__(self, options: FunctionOptions, times: PoolTimes, *, is_allowed: bool) -> None:
        self._is_allowed = is_allowed and is_packable(options)
        self._times = times
        self._recent = times.recent
        self._inputs = 0

    def count(self, inputs: int) -> None:
        """The map has at least so many inputs."""
        self._inputs = max(self._inputs, inputs)

    @property
    def is_ignorant(self) -> bool:
        """Whether more has to be known of the pool's inputs before any are packed."""
        return self._is_allowed and len(self._recent) < RECENT_OUTCOMES

    def expect(self, service_time: float | None) -> None:
        """Inputs took so many seconds on the average; four times that counts as slow."""
        if service_time is not None:
            self._recent.extend([int(service_time * 4e6)] * RECENT_OUTCOMES)

    def ran(self, microseconds: int, inputs: int = 1) -> None:
        """So many inputs took that long on the average; as long as nothing is known, each counts."""
        is_ignorant = self.is_ignorant
        self._recent.extend([microseconds] * (min(inputs, RECENT_OUTCOMES) if is_ignorant else 1))
        if self._is_allowed and not is_ignorant:
            self._times.variation.ran(microseconds, self._times.usual, inputs)

    @property
    def size(self) -> int:
        """Inputs for each entry; 1 until enough of them have ended, and while they vary widely."""
        if not self._is_allowed or self.is_ignorant or self._times.variation.is_wide:
            return 1
        worth = WORTH_MICROSECONDS // max(1, self._times.usual)
        return max(1, min(MOST_IN_PACK, worth, self._inputs // LEAST_PACKS))
