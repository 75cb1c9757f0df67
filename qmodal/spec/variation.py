"""Whether the inputs of a pool vary widely: then nothing short may wait behind another input."""

from __future__ import annotations

# An input is a long one if it takes LONG_MICROSECONDS, more than one that had to wait for a processor, and so
# many times what is usual.
LONG_MICROSECONDS = 50_000
LONG_TIMES = 8
# After a long one so many inputs have to end before the pool counts as even again.
REMEMBERED_INPUTS = 1000


class Variation:
    """Watches the times of inputs as they end; `is_wide` for a while after a long one among short ones.

    An attribute, as it is asked for with each input.
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
