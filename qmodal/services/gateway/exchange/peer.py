"""The client of one HTTP request: what is sent to it, and how its connection is cut."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from qmodal.services.gateway.exchange.responses import (
    BODILESS,
    CLOSE,
    BadResponseError,
    checked_headers,
    checked_status,
    length_of,
    plain,
    without_length,
)
from qmodal.services.gateway.head import new_request_id
from qmodal.wire.web import Header, Response

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Connection(Protocol):
    """The connection of a request, as the gateway's own server has it."""

    def on_lost(self, call: Callable[[], None] | None) -> None:
        """Call this if it is lost, at once if it is already; None: nothing any more."""

    def begin_response(self, *, has_length: bool) -> None:
        """Take in that a response begins; one without a length may have to end with the connection."""

    def end_response(self) -> None:
        """Take in that the end of a response in parts comes next."""

    def cut(self) -> None:
        """End it in the middle of a response, so that nobody takes that for the whole."""

    async def respond(self, status: int, headers: list[Header], body: bytes) -> None:
        """Send a whole response whose headers are checked."""


class _Whole:
    """A response of an ASGI app, put together."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[Header] = []
        self.body = b""

    async def take(self, message: Any) -> None:
        """Take one message of the app."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], message["headers"]
        else:
            self.body += message["body"]


class HttpPeer:
    """The client of one HTTP request; `status` is 0 until a response begins."""

    __slots__ = (
        "_is_bodiless",
        "_left",
        "_send",
        "connection",
        "function",
        "has_left",
        "is_head",
        "receive",
        "request_id",
        "sent",
        "status",
    )

    def __init__(self, connection: Connection, receive: Receive, send: Send, method: str) -> None:
        self.connection = connection
        self.receive = receive
        self.is_head = method == "HEAD"
        self.function = ("", "", "")  # environment, app and function, once it is known
        self.status = 0
        self.sent = 0  # bytes of body
        self.has_left = False
        self._send = send
        self.request_id = b""
        self._is_bodiless = False
        self._left: int | None = None  # of the content-length

    def left(self) -> None:
        """Take in that the connection is lost."""
        self.has_left = True

    async def answer(self, response: Response, *, closes: bool = False) -> None:
        """Send a whole response, or 502 in place of one that cannot be sent; `closes`: and end the connection."""
        try:
            status, headers, body = self._whole(response)
        except BadResponseError as error:
            status, headers, body = self._whole(
                plain(502, f"The function's response is bad: {error}.")
            )
        if closes:
            headers.append(CLOSE)
        self.status = status
        self.sent = len(body)
        await self.connection.respond(status, headers, body)

    async def answer_with(self, app: Any, scope: Any) -> None:
        """Send what an ASGI app of the gateway's own answers, in one write."""
        whole = _Whole()
        await app(scope, self.receive, whole.take)
        await self.answer(Response(whole.status, whole.headers, whole.body))

    async def instead(self, response: Response, *, closes: bool = False) -> None:
        """Answer what the gateway has to say; in the middle of a response, cut the connection."""
        if self.status:
            self.connection.cut()
        else:
            await self.answer(response, closes=closes)

    @property
    def _id(self) -> Header:
        if not self.request_id:  # the head could not be read
            self.request_id = new_request_id()
        return (b"x-request-id", self.request_id)

    def _whole(self, response: Response) -> tuple[int, list[Header], bytes]:
        given, headers, body = response
        status = checked_status(given)
        found = checked_headers(headers)
        found.append(self._id)
        if status in BODILESS:
            return status, without_length(found), b""
        length = length_of(found)
        if self.is_head:
            return status, found, b""
        if length is None:
            found.append((b"content-length", b"%d" % len(body)))
        elif length != len(body):
            raise BadResponseError(
                f"its content-length is {length}, and its body has {len(body)} bytes"
            )
        return status, found, body

    async def begin(self, status: object, headers: Sequence[Any]) -> None:
        """Send the head of a response whose body comes in parts; raises BadResponseError before it sends anything."""
        checked = checked_status(status)
        found = checked_headers(headers)
        found.append(self._id)
        self._is_bodiless = self.is_head or checked in BODILESS
        if checked in BODILESS:
            found = without_length(found)
        self._left = None if self._is_bodiless else length_of(found)
        self.status = checked
        has_length = self._is_bodiless or self._left is not None
        self.connection.begin_response(has_length=has_length)
        await self._send({"type": "http.response.start", "status": checked, "headers": found})

    async def body(self, part: bytes) -> None:
        """Send a part of the body, once the connection has room; raises BadResponseError if it is too long."""
        if self._is_bodiless or not part:
            return
        self.sent += len(part)
        if self._left is not None:
            self._left -= len(part)
            if self._left < 0:
                raise BadResponseError("the body is longer than its content-length")
        await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def end(self) -> None:
        """End the body; raises BadResponseError if it is too short."""
        if self._left:
            raise BadResponseError("the body is shorter than its content-length")
        self.connection.end_response()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
