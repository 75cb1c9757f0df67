"""The protocol of a connection that has become a websocket; it takes two mebibytes, so it is imported with the first one."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class GatewayWebsocket(WebSocketsSansIOProtocol):
    """One websocket. For uvicorn's a refusal is no end of the handshake: it would log an error for each."""

    async def send(self, message: Any) -> None:
        """Send what the gateway says."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True
