"""A connection that the container's loop watches, and that other threads may close meanwhile."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable


class WatchedSocket:
    """Calls back in a loop whenever a connection can be read; all by the thread of the loop.

    It watches a copy of the descriptor: what another thread closes while a loop watches it would be
    taken for the next one of that number.
    """

    def __init__(self) -> None:
        self._copy = -1
        self._loop: asyncio.AbstractEventLoop | None = None

    def watch(
        self, loop: asyncio.AbstractEventLoop, copy: int, on_readable: Callable[[], None]
    ) -> None:
        """Watch this copy of a descriptor from now on, which is closed at the end."""
        self.end()
        self._loop, self._copy = loop, copy
        loop.add_reader(copy, on_readable)

    def end(self) -> None:
        """Watch it no more."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._copy)
        if self._copy >= 0:
            os.close(self._copy)
        self._loop, self._copy = None, -1
