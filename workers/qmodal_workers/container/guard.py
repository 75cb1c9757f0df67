"""End a container whose inputs may not run twice before others can take it for lost.

Its worker does that, too. This is for a worker that stands still itself.
"""

from __future__ import annotations

import os
import signal

# The system's own, as of the import of this: gevent puts others in their place, which do nothing
# while user code is busy.
from _thread import start_new_thread
from time import sleep

from qmodal_workers.record import Record, lease_clock

LOOK_SECONDS = 0.25


class Guard:
    """Watches from a thread of its own whether the worker's lease is safe."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def start(self) -> None:
        """Look now, and from now on."""
        self.check()
        start_new_thread(self._watch, ())

    def check(self) -> None:
        """Kill this process and what it has started, if the lease is not safe any more."""
        if 0 < self._record.held_until < lease_clock():
            os.killpg(os.getpgid(0), signal.SIGKILL)

    def _watch(self) -> None:
        while True:
            sleep(LOOK_SECONDS)
            self.check()
