"""The access log: one line for each request, without what may be secret."""

from __future__ import annotations

import asyncio
import sys
from typing import NamedTuple, Protocol, TextIO

from qmodal.telemetry.events import GATEWAY_REQUEST
from qmodal.telemetry.prepared_lines import prepared_line
from qmodal.wire.web import Address

_MOST_LETTERS = 500
FIELDS = (
    *("client", "method", "path", "http_version"),
    *("status", "bytes", "seconds", "request_id"),
)


class Answered(Protocol):
    """The client of a request that was answered: with what status, and how many bytes of body."""

    status: int
    sent: int
    request_id: bytes


class Entry(NamedTuple):
    """A request that is over; `path` as the client wrote it, without the query."""

    client: Address | None
    method: str
    path: str
    http_version: str
    answered: Answered
    seconds: float


class AccessLog:
    """Writes lines to `out`, those of one round of the loop together."""

    def __init__(self, out: TextIO | None = None, *, as_json: bool = False) -> None:
        self._render = prepared_line(GATEWAY_REQUEST, FIELDS, as_json=as_json)
        self._out = sys.stderr if out is None else out
        self._lines: list[str] = []

    def add(self, entry: Entry) -> None:
        """Write its line soon."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        client, method, path, version, answered, seconds = entry
        self._lines.append(
            self._render(
                (
                    client[0] if client else None,
                    method,
                    path[:_MOST_LETTERS],
                    version,
                    answered.status or None,
                    answered.sent,
                    round(seconds, 6),
                    answered.request_id.decode() or None,
                )
            )
        )

    def flush(self) -> None:
        """Write what has gathered."""
        lines, self._lines = self._lines, []
        self._out.write("".join(lines))
        self._out.flush()
