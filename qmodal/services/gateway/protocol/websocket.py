"""The connection of one websocket: uvicorn's, with an answer to each bad handshake, and no memory for endless pings.

Imported with the first websocket, as it takes two mebibytes.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from qmodal.services.gateway.exchange.responses import plain, raw


class GatewayWebsocketProtocol(WebSocketsSansIOProtocol):
    """One websocket, from its handshake on."""

    _pong: tuple[bytes, ...] = ()

    def data_received(self, data: bytes) -> None:
        """Take what has come; refuse a handshake that cannot be read, for which uvicorn has no answer."""
        super().data_received(data)
        if not self.handshake_initiated and self.conn.handshake_exc is not None:
            told = b"".join(self.conn.data_to_send())
            self.transport.write(
                told or raw(plain(400, "The handshake cannot be read."), "Bad Request")
            )
            self.transport.close()

    async def send(self, message: Any) -> None:
        """Send what the gateway says; for uvicorn a refusal is no end of the handshake, and it logs an error for each."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True

    def handle_ping(self) -> None:
        """Answer a ping; of those that a client sends while it reads nothing, only the last one."""
        self._pong = tuple(self.conn.data_to_send())
        if self.writable.is_set():
            self._send_pong()

    def resume_writing(self) -> None:
        """The client has read what there was."""
        super().resume_writing()
        self._send_pong()

    def _send_pong(self) -> None:
        pong, self._pong = self._pong, ()
        if pong and not self.transport.is_closing():
            self.transport.write(b"".join(pong))

    def keepalive_timeout(self) -> None:
        """The client has not answered a ping; that counts only while what it sends is read."""
        if self.read_paused:  # the function has not taken the last message yet
            self.pong_timer = self.pending_ping_payload = None
            self.schedule_ping()
        else:
            super().keepalive_timeout()
