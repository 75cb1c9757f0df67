"""Kills a container whose started inputs never run again before its lease ends and others take it for lost.

The worker does that, too. This is for a worker that stands still itself.
"""

from __future__ import annotations

import os
import signal

# Bound when this is imported, before user code is: what gevent puts in their place does nothing while user
# code is busy.
from _thread import start_new_thread
from time import monotonic, sleep

from qmodal_workers.container.process.signals import unsignalled
from qmodal_workers.ipc.shared_record import SharedRecord, lease_clock

LOOK_SECONDS = 0.25
# How long an input waits before its start for the worker to renew the lease, and the time between two
# looks.
RENEWAL_SECONDS, RENEWAL_LOOK_SECONDS = 5.0, 0.02


class LeaseGuard:
    """Watches from a thread of its own whether the worker's lease is safe."""

    def __init__(self, record: SharedRecord) -> None:
        self._record = record

    def start(self) -> None:
        """Check now, and from now on in a thread."""
        self.check()
        with unsignalled():
            start_new_thread(self._watch, ())

    @property
    def is_safe(self) -> bool:
        """Whether the lease is good, so that nobody else takes this container's inputs; True while unknown."""
        return not 0 < self._record.held_until < lease_clock()

    def check(self) -> None:
        """SIGKILL this process and its group, if the lease is not safe any more."""
        if not self.is_safe:
            self._record.note_cut_off()
            os.killpg(os.getpgid(0), signal.SIGKILL)

    def admit(self) -> None:
        """Check before an input starts, and first give the worker some seconds to renew the lease.

        After a silence of the server the container may claim again before the worker has renewed.
        """
        ends = monotonic() + RENEWAL_SECONDS
        while not self.is_safe and monotonic() < ends:
            sleep(RENEWAL_LOOK_SECONDS)
        self.check()

    def _watch(self) -> None:
        while True:
            sleep(LOOK_SECONDS)
            # Only while user code runs: an input that has ended does no harm, and its outcome may wait.
            if self._record.container.serial:
                self.check()
