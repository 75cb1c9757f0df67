"""Why a container ends by itself."""

from __future__ import annotations

from qmodal_workers.container.intake.prefetch import PrefetchBuffer


class StopRequest:
    """The container claims nothing more once it `is_made`; `reason` says why, empty before that.

    `is_unfit`: it makes room for a container with another Python or qmodal.
    """

    __slots__ = ("_buffer", "is_made", "is_unfit", "reason")

    def __init__(self, buffer: PrefetchBuffer | None = None) -> None:
        self._buffer = buffer
        self.is_made = self.is_unfit = False
        self.reason = ""

    def make(self, reason: str, *, is_unfit: bool = False) -> None:
        """Stop after the input that runs; what was not started is given back now."""
        self.reason = reason
        self.is_made = True
        self.is_unfit = self.is_unfit or is_unfit
        if self._buffer is not None:
            self._buffer.release_all()
