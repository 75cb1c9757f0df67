"""End a container whose inputs may not run twice before others can take it for lost.

Its worker does that, too. This is for a worker that stands still itself.
"""

from __future__ import annotations

import os
import signal
import threading
import time

from qmodal_workers.record import SERIAL, Record, lease_clock

LOOK_SECONDS = 0.25


class Guard:
    """Watches from a thread of its own whether the worker's lease is safe."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def start(self) -> None:
        """Look now, and from now on."""
        self.check()
        threading.Thread(target=self._watch, name="lease", daemon=True).start()

    def check(self) -> None:
        """Kill this process and what it has started, if the lease is not safe any more."""
        if 0 < self._record.held_until < lease_clock():
            os.killpg(os.getpgid(0), signal.SIGKILL)

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            # What has ended runs no more, and its outcome waits for the server.
            if self._record.words[SERIAL]:
                self.check()
