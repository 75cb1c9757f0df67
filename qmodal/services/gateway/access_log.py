"""The access log: one line for each request, without what may be secret."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TextIO

from qmodal.services.gateway.head import Head

_MOST_LETTERS = 500


class AccessLog:
    """Writes lines to `out`, those of one round of the loop together.

    A line has the time, the client, the request without its query, the status, the bytes of the body, milliseconds
    and the request's id.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stderr if out is None else out
        self._lines: list[str] = []

    def add(self, head: Head, request: str, *, status: int, size: int, seconds: float) -> None:
        """Write a line soon; `request` is its method and path as the client wrote them."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        client = head.client[0] if head.client else "-"
        # What the client wrote must neither end the line nor change how a terminal shows it.
        shown = request[:_MOST_LETTERS].encode("ascii", "backslashreplace").decode()
        shown = "".join(each if each.isprintable() else "?" for each in shown)
        about = f"{status or '-'} {size} {seconds * 1000:.1f}ms {head.request_id.decode()}"
        self._lines.append(f'{now} {client} "{shown}" {about}\n')

    def flush(self) -> None:
        """Write what has gathered."""
        lines, self._lines = self._lines, []
        self._out.write("".join(lines))
        self._out.flush()
