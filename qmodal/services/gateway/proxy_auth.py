"""Checks the token that callers of protected web functions send."""

from __future__ import annotations

import hashlib
import time

from qmodal.client.client import Client
from qmodal.services.gateway.exchange.responses import refusal
from qmodal.services.gateway.head import Head

# A token that was revoked is accepted for so long.
REMEMBERED_SECONDS = 5.0
MOST_REMEMBERED = 10_000


class ProxyAuth:
    """Remembers for a few seconds which pairs of key and secret were right."""

    def __init__(self, client: Client) -> None:
        self._client = client
        # By a digest, so that no secret stays in memory.
        self._right_until: dict[bytes, float] = {}

    async def check(self, head: Head) -> None:
        """Raise RefusedError (401) unless the request has the key and the secret of a token."""
        if not head.key or not head.secret:
            raise refusal(401, "Send the headers Modal-Key and Modal-Secret of a token, please.")
        pair = hashlib.sha256(len(head.key).to_bytes(4, "big") + head.key + head.secret).digest()
        if self._right_until.get(pair, 0.0) > time.monotonic():
            return
        key, secret = head.key.decode("latin-1"), head.secret.decode("latin-1")
        if not await self._client.aio(self._client.tokens.verify(key, secret)):
            self._right_until.pop(pair, None)
            raise refusal(401, "There is no such token.")
        if len(self._right_until) >= MOST_REMEMBERED:
            self._right_until.clear()
        self._right_until[pair] = time.monotonic() + REMEMBERED_SECONDS
