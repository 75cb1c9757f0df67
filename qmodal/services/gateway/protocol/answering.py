"""One request of a connection, as who answers it sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from qmodal.services.gateway.exchange.responses import CLOSE
from qmodal.wire.web import Header

# A length that no response has: that of one whose end is the end of its connection.
UNTIL_CLOSED = 1 << 62


class Lossy(Protocol):
    """A connection that may be lost; then it calls `on_lost`."""

    on_lost: Callable[[], None] | None
    is_lost: bool


class Answering:
    """The connection of one request (`exchange.peer.Connection`): a later one may have been read already.

    `cycle` is what uvicorn has of the request and its response.
    """

    __slots__ = ("_cycle", "_protocol")

    def __init__(self, protocol: Lossy, cycle: Any) -> None:
        self._protocol = protocol
        self._cycle = cycle

    def on_lost(self, call: Callable[[], None] | None) -> None:
        """Call this if the client leaves, at once if it has left; None: nothing any more."""
        self._protocol.on_lost = call
        if call is not None and (self._protocol.is_lost or self._cycle.disconnected):
            call()

    def cut(self) -> None:
        """End the connection in the middle of a response; without its end nobody takes that for the whole."""
        self._cycle.disconnected = True
        self._cycle.transport.close()

    def begin_response(self, *, has_length: bool) -> None:
        """Take in that the response begins; one without a length may have to end with the connection."""
        cycle = self._cycle
        if cycle.waiting_for_100_continue and cycle.more_body:
            cycle.keep_alive = False  # nobody knows whether the body follows, or the next request
        if not has_length and cycle.scope["http_version"] == "1.0":
            cycle.chunked_encoding, cycle.expected_content_length = False, UNTIL_CLOSED

    def end_response(self) -> None:
        """Take in that the end of a response in parts comes next."""
        if self._cycle.expected_content_length > UNTIL_CLOSED // 2:
            self._cycle.expected_content_length = 0

    async def respond(self, status: int, headers: list[Header], body: bytes) -> None:
        """Send a response whose headers are checked in one write: `send` makes two, each a system call."""
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        self.begin_response(has_length=True)
        content = [STATUS_LINE[status]]
        for name, value in (*cycle.default_headers, *headers):
            content += (name, b": ", value, b"\r\n")
        if CLOSE in headers:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            content.append(b"connection: close\r\n")
        content += (b"\r\n", body)
        cycle.transport.write(b"".join(content))
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
