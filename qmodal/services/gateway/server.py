"""The HTTP server of a gateway: uvicorn, with limits for heads of requests, and an end that drops no request."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from qmodal.services.gateway.app import CONNECTION
from qmodal.services.gateway.exchange.responses import CLOSE, plain
from qmodal.wire.web import Header

HEAD_BYTES = 64 * 1024
MOST_HEADERS = 200
# How long the head of a request may take, an idle connection stays, and one is left when the server stops.
HEAD_SECONDS, IDLE_SECONDS, LAST_SECONDS = 30.0, 75, 1.0
# A client that has not read anything for so long is not waited for.
WRITE_SECONDS = 300.0
# What is still read of a body after the response, so that the client gets to read that, and for how long.
DRAIN_BYTES, DRAIN_SECONDS = 16 * 1024 * 1024, 5.0
MESSAGE_BYTES = 2 * 1024 * 1024
LOOK_TICKS = 10  # of 0.1 s
SIGNALS = (signal.SIGINT, signal.SIGTERM)
Hook = Callable[[], Awaitable[None]]


class _TrailersDropped(list[tuple[bytes, bytes]]):
    """Takes no header: those that follow a body would be added to the ones that routes were chosen by."""

    def append(self, header: tuple[bytes, bytes]) -> None:
        """Drop it."""


_TRAILERS = _TrailersDropped()


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
        self.is_in_head = True
        self.head_begun = self.loop.time()
        self._paused_at: float | None = None
        self._is_leaving = False
        self._head_bytes = self._fed = self._drained = 0

    @property
    def _is_idle(self) -> bool:
        """Whether no request is being answered."""
        cycle: Any = self.cycle
        return cycle is None or cycle.response_complete

    def data_received(self, data: bytes) -> None:
        """Parse what has come; refuse a head without an end."""
        self._fed = len(data)
        super().data_received(data)
        if self.is_in_head:
            self._head_bytes += self._fed
            if self._head_bytes > HEAD_BYTES:
                self.refuse(431, "The head of the request is too large.")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.is_in_head = True
        self.head_begun = self.loop.time()
        self._head_bytes = self._drained = 0

    def on_headers_complete(self) -> None:
        """The head is there: start to answer it."""
        self.is_in_head = False
        headers = self.headers
        if len(headers) > MOST_HEADERS or (
            self._head_bytes + self._fed > HEAD_BYTES and _size_of(headers, self.url) > HEAD_BYTES
        ):
            self.refuse(431, "The head of the request is too large.")
            raise ValueError("too large")  # ends the parser
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:  # else it becomes a websocket
            extensions: dict[str, Any] = {CONNECTION: _Answering(self, self.cycle)}
            self.scope["extensions"] = extensions
        if not self.parser.should_upgrade():
            self.headers = _TRAILERS
        if self._is_leaving and not self._is_idle:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a part of the body; after the response, drop it, and not for ever."""
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
        self._unset_keepalive_if_required()  # its handle would keep this for as long
        self.cycle = cast("Any", None)  # it refers back, and would be left to the garbage collector
        on_lost, self.on_lost = self.on_lost, None
        if on_lost is not None:
            on_lost()

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be parsed."""
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def refuse(self, status: int, text: str) -> None:
        """Answer a request whose head is not complete, and close; after a response, only close."""
        if self.transport.is_closing():
            return
        if self._is_idle:
            body = plain(status, text).body
            phrase = {408: "Request Timeout", 431: "Request Header Fields Too Large"}[status]
            head = (
                f"HTTP/1.1 {status} {phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
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


class _Answering:
    """The connection of one request (`Connection`): a later one may have been read already."""

    __slots__ = ("_cycle", "_protocol")

    def __init__(self, protocol: GatewayProtocol, cycle: Any) -> None:
        self._protocol = protocol
        self._cycle = cycle

    def on_lost(self, call: Callable[[], None] | None) -> None:
        """Call this if the client leaves, at once if it has left; None: nothing any more."""
        self._protocol.on_lost = call
        if call is not None and self._cycle.disconnected:
            call()

    def cut(self) -> None:
        """End the connection in the middle of a response; without its end nobody takes that for the whole."""
        self._cycle.disconnected = True
        self._protocol.transport.close()

    async def respond(self, status: int, headers: list[Header], body: bytes) -> None:
        """Send a response whose headers are checked in one write: `send` makes two, each a system call."""
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        content = [STATUS_LINE[status]]
        for name, value in cycle.default_headers:
            content += (name, b": ", value, b"\r\n")
        for name, value in headers:
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


def _size_of(headers: list[tuple[bytes, bytes]], url: bytes) -> int:
    return len(url) + sum(len(name) + len(value) + 4 for name, value in headers)


class GatewayServer(uvicorn.Server):
    """Serves until a signal says to stop: the first one lets requests end, the second one does not.

    `on_start` is called once it listens, `on_stop` before it stops to.
    """

    def __init__(self, config: uvicorn.Config, on_start: Hook, on_stop: Hook) -> None:
        super().__init__(config)
        self._on_start = on_start
        self._on_stop = on_stop

    def stop(self) -> None:
        """Stop as the first signal does; as the second one, if it stops already."""
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        self.stop()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop by signals while it serves; unlike uvicorn's, it does not send them again afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        await self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Have nobody sent here any more, let the requests end, and close."""
        await self._on_stop()
        # Connections that are there, and were not accepted yet, would be reset.
        for _ in range(3):
            await asyncio.sleep(0)
        await super().shutdown(sockets)

    async def cancel_requests(self) -> None:
        """End the requests that the time for a stop was too short for."""
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_SECONDS)

    async def on_tick(self, counter: int) -> bool:
        """Look for slow connections, once a second."""
        if counter % LOOK_TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, GatewayProtocol):
                    connection.check(now)
        return await super().on_tick(counter)


def websocket_protocol(**about: Any) -> asyncio.Protocol:
    """The protocol of a connection that becomes a websocket; imported with the first one, as it takes two mebibytes."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    return WebSocketsSansIOProtocol(**about)


def config_for(app: Any, *, grace: float) -> uvicorn.Config:
    """How uvicorn serves the app."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=GatewayProtocol,
        ws=cast("type[asyncio.Protocol]", websocket_protocol),
        ws_max_size=MESSAGE_BYTES,
        ws_per_message_deflate=False,  # it takes 300 KiB for each websocket
        interface="asgi3",
        lifespan="off",
        log_config=None,
        log_level="error",  # what it warns of, clients write
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=max(1, round(grace)),
    )
