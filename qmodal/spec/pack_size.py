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


def is_packable(options: FunctionOptions) -> bool:
    """Whether several inputs of this function may share an entry.

    Not if each has to have a container of its own, nor if none may run twice: what has ended in a
    pack runs again when the container dies before the whole of it is written. Nor if they run side
    by side: those of a pack run one after another.
    """
    return not (options.is_once or options.single_use_containers or options.is_concurrent)


class PackTimes:
    """Times of the last outcomes of each pool, in µs, as this process has seen them."""

    __slots__ = ("_recent",)

    def __init__(self) -> None:
        self._recent: dict[str, deque[int]] = {}

    def of(self, pool: str) -> deque[int]:
        """Of that pool; shared by all who add to it."""
        if len(self._recent) >= MOST_LEARNED_POOLS and pool not in self._recent:
            self._recent.clear()
        return self._recent.setdefault(pool, deque(maxlen=RECENT_OUTCOMES))


class PackSizer:
    """Learns from outcomes, and says how many inputs to put into an entry."""

    __slots__ = ("_inputs", "_is_allowed", "_recent")

    def __init__(self, options: FunctionOptions, recent: deque[int], *, is_allowed: bool) -> None:
        self._is_allowed = is_allowed and is_packable(options)
        self._recent = recent
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
        times = min(inputs, RECENT_OUTCOMES) if self.is_ignorant else 1
        self._recent.extend([microseconds] * times)

    @property
    def size(self) -> int:
        """Inputs for each entry; 1 until enough of them have ended."""
        if not self._is_allowed or self.is_ignorant:
            return 1
        usual = sorted(self._recent)[USUAL_RANK]
        return max(
            1, min(MOST_IN_PACK, WORTH_MICROSECONDS // max(1, usual), self._inputs // LEAST_PACKS)
        )
