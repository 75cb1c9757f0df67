"""Gateways: which of them live, and where each serves web functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import msgpack

from qmodal.exception import Error
from qmodal.store import reading
from qmodal.store.keys import Keys
from qmodal.transport.defects import skip
from qmodal.transport.operation import Op, ask, ask_one
from qmodal.wire.envelope import SHAPE, kinds, unpack_fields
from qmodal.wire.signing import Signer

# A gateway that was killed counts as living for so long; a living one has renewed its lease by then.
GATEWAY_LEASE_MS, GATEWAY_RENEW_SECONDS = 10_000, 3.0
_PURPOSE = "code"
_KINDS = kinds(str, str, str)
_SEALED = "gateway"


class Gateway(NamedTuple):
    """One gateway: its id, its base URL without a slash at the end, and when it started in ms since 1970."""

    gateway: str
    url: str
    started: int


@dataclass(frozen=True, slots=True)
class Gateways:
    """Operations on gateways."""

    keys: Keys
    signer: Signer

    def renew(self, gateway: Gateway) -> Op[None]:
        """Make the gateway known, or keep it so, for ten seconds."""
        url = self.signer.sign(
            _PURPOSE, msgpack.packb((SHAPE, _SEALED, gateway.gateway, gateway.url))
        )
        yield from ask(
            (b"SET", self.keys.gateway(gateway.gateway), url, b"PX", GATEWAY_LEASE_MS),
            (b"ZADD", self.keys.gateways, gateway.started, gateway.gateway),
            (b"PEXPIRE", self.keys.gateways, GATEWAY_LEASE_MS),
        )

    def remove(self, gateway: str) -> Op[None]:
        """Forget the gateway, as it ends."""
        yield from ask(
            (b"UNLINK", self.keys.gateway(gateway)),
            (b"ZREM", self.keys.gateways, gateway),
        )

    def living(self) -> Op[list[Gateway]]:
        """The gateways whose lease has not ended, the newest first."""
        key = self.keys.gateways
        scored = yield from ask_one(b"ZREVRANGE", key, 0, -1, b"WITHSCORES")
        started = {
            name: reading.whole(score) or 0
            for member, score in reading.pairs(scored)
            if (name := reading.text(member, key)) is not None
        }
        if not started:
            return []
        replies = yield from ask_one(b"MGET", *map(self.keys.gateway, started))
        if gone := [name for name, sealed in zip(started, replies, strict=True) if sealed is None]:
            # One that was only slow is back with its next renewal.
            yield from ask_one(b"ZREM", key, *gone)
        urls = map(self._url, started, replies)
        return [
            Gateway(name, url, at)
            for (name, at), url in zip(started.items(), urls, strict=True)
            if url is not None
        ]

    def newest(self) -> Op[str | None]:
        """The base URL of the living gateway that started last; None without any."""
        living = yield from self.living()
        return living[0].url if living else None

    def _url(self, gateway: str, sealed: bytes | None) -> str | None:
        if sealed is None:
            return None
        try:
            fields = unpack_fields(self.signer.verify(_PURPOSE, sealed), _KINDS)
        except Error as error:
            skip(f"gateway {gateway}", str(error))
            return None
        *of_gateway, url = fields
        return url if of_gateway == [_SEALED, gateway] else None
