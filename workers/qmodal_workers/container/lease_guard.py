"""Ends a container whose inputs may not run twice before others can take it for lost.

Its worker does that, too. This is for a worker that stands still itself.
"""

from __future__ import annotations

import os
import signal

# The system's own, as of the import of this: gevent puts others in their place, which do nothing
# while user code is busy.
from _thread import start_new_thread
from time import monotonic, sleep

from qmodal_workers.ipc.shared_record import SharedRecord, lease_clock

LOOK_SECONDS = 0.25
RENEWED_SECONDS = 5.0
SOON_SECONDS = 0.02


class LeaseGuard:
    """Watches from a thread of its own whether the worker's lease is safe."""

    def __init__(self, record: SharedRecord) -> None:
        self._record = record

    def start(self) -> None:
        """Look now, and from now on."""
        self.check()
        start_new_thread(self._watch, ())

    @property
    def is_safe(self) -> bool:
        """Whether nobody else may take this container's inputs now; so, too, before the worker says one."""
        return not 0 < self._record.held_until < lease_clock()

    def check(self) -> None:
        """Kill this process and what it has started, if the lease is not safe any more."""
        if not self.is_safe:
            os.killpg(os.getpgid(0), signal.SIGKILL)

    def admit(self) -> None:
        """Before an input starts: as `check`, unless the worker renews the lease in a moment.

        After a silence of the server the container may claim again before the worker has renewed.
        """
        ends = monotonic() + RENEWED_SECONDS
        while not self.is_safe and monotonic() < ends:
            sleep(SOON_SECONDS)
        self.check()

    def _watch(self) -> None:
        while True:
            sleep(LOOK_SECONDS)
            # What has ended runs no more, and its outcome waits for the server.
            if self._record.container.serial:
                self.check()
