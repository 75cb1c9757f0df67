"""The endpoints that connect the worker with one container: two pipes, a control socket, the record."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from dataclasses import dataclass

from qmodal_workers.ipc.messages import pair
from qmodal_workers.ipc.shared_record import SharedRecord
from qmodal_workers.ipc.start_request import Descriptors

PIPE_BYTES = 1024 * 1024


@dataclass(slots=True, kw_only=True)
class Endpoints:
    """The worker's ends of one container's pipes, socket and record; `theirs`: the container's ends."""

    stdout: int
    stderr: int
    control: socket.socket
    record: SharedRecord
    theirs: Descriptors

    @classmethod
    def create(cls) -> Endpoints:
        """Create both ends; no descriptor is inherited unless passed on."""
        record = SharedRecord.create()
        record.output.draw_secret()
        ours, theirs = pair()
        ours.setblocking(False)
        (stdout, their_stdout), (stderr, their_stderr) = wide_pipe(), wide_pipe()
        return cls(
            stdout=stdout,
            stderr=stderr,
            control=ours,
            record=record,
            theirs=Descriptors(their_stdout, their_stderr, theirs.detach(), record.fd),
        )

    def hand_over(self) -> None:
        """Close the container's ends once it has them, so that its pipes end when it does."""
        for fd in (self.theirs.stdout, self.theirs.stderr, self.theirs.control):
            os.close(fd)

    def close(self) -> None:
        """Close the control socket and the record; the reader of the pipes closes these."""
        self.control.close()
        self.record.close()


def wide_pipe() -> tuple[int, int]:
    """A pipe (reading end, writing end) whose reading end does not block, of PIPE_BYTES if allowed."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        # The pipes of an unprivileged user share a limit; above it this one keeps its usual size.
        with contextlib.suppress(OSError):
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return reading, writing
