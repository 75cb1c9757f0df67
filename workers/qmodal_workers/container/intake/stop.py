"""A container's own decision to end, and its reason."""

from __future__ import annotations

from qmodal_workers.container.intake.prefetch import PrefetchBuffer

# The reason of one that ends because other pools wait for its place.
GIVES_WAY = "it has nothing to do, and other pools wait for its place"


class StopRequest:
    """Once it `is_made`, the container claims nothing more; `reason` says why, empty before that.

    `is_unfit`: an input needs a container with another Python or qmodal, for which this one makes room.
    `gives_way`: it has nothing to do, and other pools wait for its place.
    """

    __slots__ = ("_buffer", "gives_way", "is_made", "is_unfit", "reason")

    def __init__(self, buffer: PrefetchBuffer | None = None) -> None:
        self._buffer = buffer
        self.is_made = self.is_unfit = self.gives_way = False
        self.reason = ""

    def make(self, reason: str, *, is_unfit: bool = False) -> None:
        """Stop after the input that runs; entries that were not started are released now."""
        self.reason = reason
        self.is_made = True
        self.is_unfit = self.is_unfit or is_unfit
        if self._buffer is not None:
            self._buffer.release_all()

    def give_way(self) -> None:
        """Stop because others wait for the container's place, and nothing for the container."""
        self.gives_way = True
        self.make(GIVES_WAY)
