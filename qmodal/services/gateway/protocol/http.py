"""One HTTP connection of a gateway: uvicorn's, with limits, and with framing that cannot be read in two ways."""

from __future__ import annotations

import re
import select
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from qmodal.services.gateway.app import CONNECTION
from qmodal.services.gateway.exchange.responses import plain, raw
from qmodal.services.gateway.protocol.answering import Answering

HEAD_BYTES = 64 * 1024
MOST_HEADERS = 200
# How long the head of a request may take, an idle connection stays, and one is left when the server stops.
HEAD_SECONDS, IDLE_SECONDS, LAST_SECONDS = 30.0, 75, 1.0
# A client that has not read anything for so long is not waited for.
WRITE_SECONDS = 300.0
# What is still read of a body after the response, so that the client gets to read that, and for how long.
DRAIN_BYTES, DRAIN_SECONDS = 16 * 1024 * 1024, 5.0
_PHRASES = {408: "Request Timeout", 431: "Request Header Fields Too Large"}
# The target of a request to a proxy: with the host, which counts instead of the Host header.
_ABSOLUTE = re.compile(rb"https?://([^/?#@]+)([/?].*)?", re.IGNORECASE | re.DOTALL)
# The peer has closed its side; elsewhere than on Linux this is known only once all that it sent is read.
_HUNG_UP = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)


class _TrailersDropped(list[tuple[bytes, bytes]]):
    """Takes no header: those that follow a body would be added to the ones that routes were chosen by."""

    def append(self, header: tuple[bytes, bytes]) -> None:
        """Drop it."""


_TRAILERS = _TrailersDropped()
# What says how long a body is.
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


class _Pipeline(list[Any]):
    """The requests of a connection that wait for the one before; a deque takes half a kibibyte, empty or not."""

    def appendleft(self, waiting: Any) -> None:
        """Add the newest."""
        self.insert(0, waiting)


class GatewayProtocol(HttpToolsProtocol):
    """One connection; the parser is httptools, and this adds limits and the news that the client has left."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pipeline = cast("deque[Any]", _Pipeline())
        self.on_lost: Callable[[], None] | None = None
        self.is_lost = False
        self.is_in_head = True
        self.head_begun = self.loop.time()
        self._answered: Any = None  # the cycle of the request that is being answered
        self._paused_at: float | None = None
        self._is_leaving = self._is_body_next = False
        # Bytes of a head, of one read, of a body after its response, and of what is in a body and not of it.
        self._head_bytes = self._fed = self._drained = self._aside = 0

    @property
    def _is_idle(self) -> bool:
        """Whether no request is being answered."""
        cycle: Any = self.cycle
        return cycle is None or cycle.response_complete

    def data_received(self, data: bytes) -> None:
        """Parse what has come; refuse a head without an end."""
        self._fed = len(data)
        self._unset_keepalive_if_required()
        self._feed(data)
        cycle: Any = self.cycle
        if self.is_in_head:
            self._head_bytes += self._fed
            if self._head_bytes > HEAD_BYTES:
                self.refuse(431, "The head of the request is too large.")
        elif cycle is not None and cycle.more_body:
            self._aside += self._fed
            if self._aside > HEAD_BYTES:  # of a trailer, which the parser gathers whole
                self.transport.close()
        elif self._is_idle and self.timeout_keep_alive_task is None:
            # Empty lines before a head would keep the connection for ever.
            self.is_in_head, self._head_bytes = True, 0
            self.head_begun = self.loop.time()

    def _feed(self, data: bytes) -> None:
        try:
            while data:
                data = self._rest_after(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def _rest_after(self, data: bytes) -> bytes:
        """Parse the data; what follows a head that asks for another protocol, which it does not get."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._get_upgrade() == b"websocket":
                self.handle_websocket_upgrade()
            else:
                self._go_on_without_upgrade()
                return data[upgrade.args[0] :]
        return b""

    def _go_on_without_upgrade(self) -> None:
        """Read on in HTTP/1.1: the parser has taken all behind the head for the other protocol, the body, too."""
        self.headers = _TRAILERS
        self.parser = httptools.HttpRequestParser(self)
        framing = [b"%s: %s\r\n" % each for each in self.scope["headers"] if each[0] in _FRAMING]
        if framing:
            self._is_body_next = True
            self.parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % b"".join(framing))
            self._is_body_next = False

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._is_body_next:
            return
        super().on_message_begin()
        self.is_in_head = True
        self.head_begun = self.loop.time()
        self._head_bytes = self._drained = self._aside = 0

    def on_url(self, url: bytes) -> None:
        """A part of the target of a request."""
        if not self._is_body_next:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header of a request."""
        if not self._is_body_next:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there: start to answer it."""
        if self._is_body_next:
            return
        self.is_in_head = False
        self._aside = -self._fed  # what came with it does not count
        headers = self.headers
        if len(headers) > MOST_HEADERS or (
            self._head_bytes + self._fed > HEAD_BYTES and _size_of(headers, self.url) > HEAD_BYTES
        ):
            self.refuse(431, "The head of the request is too large.")
            raise ValueError("too large")  # ends the parser
        if not self.url.startswith(b"/"):
            self._make_relative()
        self._check_version()
        self._begin_cycle()
        if not self.parser.should_upgrade():
            self.headers = _TRAILERS
        if self._is_leaving and not self._is_idle:
            self.cycle.keep_alive = False

    def _begin_cycle(self) -> None:
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:  # else it becomes a websocket
            extensions: dict[str, Any] = {CONNECTION: Answering(self, self.cycle)}
            self.scope["extensions"] = extensions

    def _make_relative(self) -> None:
        """Take the host from the target; raises ValueError, which is answered with 400, for other targets."""
        found = _ABSOLUTE.fullmatch(self.url)
        if found is None:  # of CONNECT, and `*`
            raise ValueError("the target is no path")
        host, rest = found.groups()
        self.url = rest if rest and rest.startswith(b"/") else b"/" + (rest or b"")
        for at, (name, _) in enumerate(self.headers):
            if name == b"host":
                self.headers[at] = (name, host)

    def _check_version(self) -> None:
        """Raises ValueError, which is answered with 400, for what this server does not speak."""
        parser, version = self.parser, self.parser.get_http_version()
        if version not in ("1.1", "1.0") or parser.get_method() == b"CONNECT":
            raise ValueError("no HTTP/1")
        if parser.should_upgrade() and self._get_upgrade() == b"websocket":
            has_body = any(name in _FRAMING for name, _ in self.headers)
            # Before a response is complete it would be written into the websocket.
            if version != "1.1" or has_body or not self._is_idle:
                raise ValueError("no websocket can begin here")

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        """A request is there with its body."""
        if not self._has_body_elsewhere:
            super().on_message_complete()

    @property
    def _has_body_elsewhere(self) -> bool:
        """Whether the parser has left out the body, as it takes it for another protocol."""
        return self.parser.should_upgrade() and any(
            name in _FRAMING for name, _ in self.scope["headers"]
        )

    def on_body(self, body: bytes) -> None:
        """Take a part of the body; after the response, drop it, and not for ever."""
        self._aside = -self._fed
        if self._is_idle:
            self._drained += len(body)
            if self._drained > DRAIN_BYTES:
                self.transport.close()
            return
        super().on_body(body)

    def on_response_complete(self) -> None:
        """The response is sent; its request may not be there yet."""
        cycle: Any = self.cycle
        super().on_response_complete()
        if cycle is not None and cycle.more_body and cycle is self.cycle:
            self.loop.call_later(DRAIN_SECONDS, self._end_drain, cycle)

    def _end_drain(self, cycle: object) -> None:
        if cycle is self.cycle and self.cycle.more_body and not self.transport.is_closing():
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who answers that nobody listens."""
        super().connection_lost(exc)
        self.is_lost = True
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True  # it need not be the last one that has come
        self._unset_keepalive_if_required()  # its handle would keep this for as long
        # They refer back: every connection would be left to the garbage collector.
        self.cycle = cast("Any", None)
        self._answered = None
        on_lost, self.on_lost = self.on_lost, None
        if on_lost is not None:
            on_lost()

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be parsed, once what came whole before it is answered."""
        cycle = self.cycle
        if self.transport.is_closing():
            return
        is_at_hand = cycle is self._answered and cycle is not None and cycle.more_body
        if self._is_idle or (is_at_hand and not cycle.response_started):
            super().send_400_response(msg)
        elif cycle.more_body:
            self.transport.close()
        else:
            cycle.keep_alive = False

    def refuse(self, status: int, text: str) -> None:
        """Answer a request whose head is not complete, and close; after a response, only close."""
        if self.transport.is_closing():
            return
        if self._is_idle:
            self.transport.write(raw(plain(status, text), _PHRASES[status]))
        self.transport.close()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is sent to."""
        super().pause_writing()
        self._paused_at = self.loop.time()

    def resume_writing(self) -> None:
        """The client has read what there was."""
        super().resume_writing()
        self._paused_at = None

    def check(self, now: float) -> None:
        """End the connection if its client is too slow; `now` by the loop's clock."""
        if self._paused_at is not None and now - self._paused_at > WRITE_SECONDS:
            self.transport.abort()
        elif self.is_in_head and now - self.head_begun > HEAD_SECONDS:
            self._give_up_head()
        elif self.flow.read_paused and self._has_hung_up():
            self.transport.close()  # as the news of that is not read

    def _has_hung_up(self) -> bool:
        if self.transport.is_closing():
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), _HUNG_UP)
        return bool(poll.poll(0))

    def _give_up_head(self) -> None:
        if self._head_bytes:
            self.refuse(408, "The head of the request does not come.")
        else:
            self.transport.close()

    def shutdown(self) -> None:
        """Take no request any more, but for one that is on its way already."""
        self._is_leaving = True
        if self._is_idle:
            self.loop.call_later(LAST_SECONDS, self._leave)
        else:
            self.cycle.keep_alive = False

    def _leave(self) -> None:
        if self._is_idle:
            self.transport.close()


def _size_of(headers: list[tuple[bytes, bytes]], url: bytes) -> int:
    return len(url) + sum(len(name) + len(value) + 4 for name, value in headers)
