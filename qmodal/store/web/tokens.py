"""Tokens: the pairs of key and secret by which callers of protected web functions are known."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from typing import NamedTuple

import msgpack

from qmodal.exception import Error
from qmodal.store import reading
from qmodal.store.keys import Keys
from qmodal.transport.defects import skip
from qmodal.transport.operation import Op, ask_one, ask_shared
from qmodal.wire.envelope import SHAPE, kinds, unpack_fields
from qmodal.wire.signing import Signer

_PURPOSE = "code"
_SEALED = "token"
_KINDS = kinds(str, str, bytes, str, int)
# What callers send of a key and of a secret is not looked at beyond this.
MOST_BYTES = 200


class NewToken(NamedTuple):
    """A token as its owner gets it, once: only a digest of the secret is kept."""

    key: str
    secret: str


class Token(NamedTuple):
    """A token as it is kept; `created` in ms since 1970."""

    key: str
    digest: bytes
    name: str
    created: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """Operations on tokens."""

    keys: Keys
    signer: Signer

    def create(self, name: str = "") -> Op[NewToken]:
        """Make a token; `name` says what it is for."""
        made = NewToken("wk-" + secrets.token_hex(11), "ws-" + secrets.token_urlsafe(32))
        token = Token(made.key, _digest(made.secret), name, time.time_ns() // 1_000_000)
        sealed = self.signer.sign(_PURPOSE, msgpack.packb((SHAPE, _SEALED, *token)))
        yield from ask_one(b"HSET", self.keys.tokens, made.key, sealed)
        return made

    def all(self) -> Op[list[Token]]:
        """All tokens, the oldest first."""
        key = self.keys.tokens
        found = []
        for field, sealed in reading.pairs((yield from ask_one(b"HGETALL", key))):
            name = reading.text(field, key)
            if name is not None and (token := self._open(name, sealed)) is not None:
                found.append(token)
        return sorted(found, key=lambda token: (token.created, token.key))

    def revoke(self, key: str) -> Op[bool]:
        """Have gateways refuse the token, within seconds; False if there was none."""
        reply: int = yield from ask_one(b"HDEL", self.keys.tokens, _raw(key))
        return reply == 1

    def verify(self, key: str, secret: str) -> Op[bool]:
        """Whether there is such a token, and this is its secret."""
        if len(key) > MOST_BYTES or len(secret) > MOST_BYTES:
            return False
        (sealed,) = yield from ask_shared((b"HGET", self.keys.tokens, _raw(key)))
        token = self._open(key, sealed) if isinstance(sealed, bytes) else None
        # Compared also where there is none, so that the time does not tell which keys exist.
        expected = token.digest if token is not None else bytes(32)
        is_equal = hmac.compare_digest(_digest(secret), expected)
        return is_equal and token is not None

    def _open(self, key: str, sealed: bytes) -> Token | None:
        """The token, unless somebody without the signing key has written it, or copied it from elsewhere."""
        try:
            fields = unpack_fields(self.signer.verify(_PURPOSE, sealed), _KINDS)
        except Error as error:
            skip(f"the token {key!r:.60}", str(error))
            return None
        what, of_key, digest, name, created = fields
        if (what, of_key) != (_SEALED, key):
            skip(f"the token {key!r:.60}", "it is another one's")
            return None
        return Token(key, digest, name, created)


def _raw(key: str) -> bytes:
    """The key as it is sent; who makes one up may have put half a character into it."""
    return key.encode(errors="surrogateescape")


def _digest(secret: str) -> bytes:
    # The secret is 32 random bytes: a slow digest would protect nothing more.
    return hashlib.sha256(secret.encode(errors="replace")).digest()
