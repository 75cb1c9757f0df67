"""The lifeline: a pipe whose other end only the client has; when it closes, the stack stops."""

from __future__ import annotations

import os
import time

# What a client sends to have a gateway started that waits to be asked for.
START_GATEWAY = b"gateway"


class Lifeline:
    """Knows by when the stack must be stopped; `deadline` is None while it may run.

    A line is a number: "stop, and give the children that many seconds", or START_GATEWAY, which sets
    `wants_gateway`. The end of the pipe without a number says that the client is gone, however it went.
    """

    def __init__(self, descriptor: int, *, grace: float = 0.0) -> None:
        self.descriptor = descriptor
        self.grace = grace
        self.deadline: float | None = None
        self.open = True
        self.wants_gateway = False
        self._received = b""

    def first_line(self) -> bytes:
        """Waits for the first line, which is the plan; EOFError if the client is gone."""
        while b"\n" not in self._received:
            chunk = os.read(self.descriptor, 65_536)
            if not chunk:
                raise EOFError
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line

    def read(self) -> None:
        """Takes what came; call it when the descriptor is readable."""
        chunk = os.read(self.descriptor, 4096)
        *lines, self._received = (self._received + chunk).split(b"\n")
        for line in lines:
            if line == START_GATEWAY:
                self.wants_gateway = True
            else:
                self.stop_within(float(line))
        if not chunk:
            self.open = False
            if self.deadline is None:
                self.stop_within(self.grace)

    def stop_within(self, seconds: float) -> None:
        """Moves the deadline here, unless there is an earlier one."""
        deadline = time.monotonic() + seconds
        self.deadline = deadline if self.deadline is None else min(self.deadline, deadline)
