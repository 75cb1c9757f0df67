"""The access log: one line for each request, without what may be secret."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import NamedTuple, Protocol, TextIO

from qmodal.telemetry.log_lines import json_time
from qmodal.wire.web import Address

_MOST_LETTERS = 500


class Answered(Protocol):
    """The client of a request that was answered: with what status, and how many bytes of body."""

    status: int
    sent: int
    request_id: bytes


class Entry(NamedTuple):
    """A request that is over; `request` is its method and path as the client wrote them."""

    client: Address | None
    request: str
    answered: Answered
    seconds: float

    @property
    def line(self) -> str:
        """The time, the client, the request, the status, the bytes of the body, milliseconds and the request's id."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        client = self.client[0] if self.client else "-"
        request = self.request[:_MOST_LETTERS]
        status, size, request_id = (
            self.answered.status,
            self.answered.sent,
            self.answered.request_id,
        )
        about = f"{status or '-'} {size} {self.seconds * 1000:.1f}ms {request_id.decode() or '-'}"
        return f'{now} {_shown(client)} "{_shown(request)}" {about}\n'

    @property
    def json(self) -> str:
        """The same as an object of JSON, as `--log-json` has lines."""
        answered = self.answered
        method, _, target = self.request[:_MOST_LETTERS].partition(" ")
        fields = {
            "time": json_time(time.time()),
            "level": "info",
            "event": "gateway.request",
            "client": self.client[0] if self.client else None,
            "method": method,
            "path": target.partition(" ")[0],
            "status": answered.status or None,
            "bytes": answered.sent,
            "seconds": round(self.seconds, 6),
            "request_id": answered.request_id.decode() or None,
        }
        return json.dumps(fields) + "\n"


def _shown(text: str) -> str:
    """What a client wrote must neither end the line nor change how a terminal shows it."""
    escaped = text.encode("ascii", "backslashreplace").decode()
    return "".join(each if each.isprintable() else "?" for each in escaped)


class AccessLog:
    """Writes lines to `out`, those of one round of the loop together."""

    def __init__(self, out: TextIO | None = None, *, as_json: bool = False) -> None:
        self._as_json = as_json
        self._out = sys.stderr if out is None else out
        self._lines: list[str] = []

    def add(self, entry: Entry) -> None:
        """Write its line soon."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        self._lines.append(entry.json if self._as_json else entry.line)

    def flush(self) -> None:
        """Write what has gathered."""
        lines, self._lines = self._lines, []
        self._out.write("".join(lines))
        self._out.flush()
