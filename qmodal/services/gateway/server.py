"""The HTTP server of a gateway: uvicorn, with limits for heads of requests, and an end that drops no request."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import Any, cast

import uvicorn

from qmodal.services.gateway.protocol.http import IDLE_SECONDS, LAST_SECONDS, GatewayProtocol
from qmodal.wire.web import MOST_WEBSOCKET_BYTES

LOOK_TICKS = 10  # of 0.1 s
SIGNALS = (signal.SIGINT, signal.SIGTERM)
Hook = Callable[[], Awaitable[None]]


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
    from qmodal.services.gateway.protocol.websocket import GatewayWebsocketProtocol

    return GatewayWebsocketProtocol(**about)


def config_for(app: Any, *, grace: float) -> uvicorn.Config:
    """How uvicorn serves the app."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=GatewayProtocol,
        ws=cast("type[asyncio.Protocol]", websocket_protocol),
        ws_max_size=MOST_WEBSOCKET_BYTES,
        ws_per_message_deflate=False,  # it takes 300 KiB for each websocket
        interface="asgi3",
        lifespan="off",
        log_config=None,
        log_level="critical",  # the rest clients could write, or have written
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=max(1, round(grace)),
    )
