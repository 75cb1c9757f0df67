"""Tokens: who may send requests to guarded web functions, as an id and a secret that only its owner has."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import NamedTuple

import msgpack

from qmodal.exception import Error
from qmodal.store import reading
from qmodal.store.keys import Keys
from qmodal.store.server import server_ms
from qmodal.transport.defects import skip
from qmodal.transport.operation import Op, ask_one
from qmodal.wire.envelope import SHAPE, kinds, unpack_fields
from qmodal.wire.ids import new_token_id, new_token_secret
from qmodal.wire.signing import Signer

# How much of a secret is shown by lists, for whoever wonders which one it is.
SHOWN_CHARACTERS = 4
_PURPOSE = "code"
_SEALED = "token"
_KINDS = kinds(str, str, bytes, int, str, str)


class Token(NamedTuple):
    """One token as it is kept: `digest` is the SHA-256 of its secret, `ending` its last characters.

    `created` is in ms since 1970.
    """

    token: str
    digest: bytes
    created: int
    note: str
    ending: str

    def admits(self, secret: str) -> bool:
        """Whether this is the token's secret; takes as long for one that is nearly right."""
        return hmac.compare_digest(self.digest, digest_of(secret))


class NewToken(NamedTuple):
    """A token that was made just now, with the secret that is nowhere else."""

    token: str
    secret: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """Operations on tokens; they are signed, so that who can write to the server cannot make one."""

    keys: Keys
    signer: Signer

    def make(self, note: str = "") -> Op[NewToken]:
        """Make a token; `note` is for lists."""
        secret = new_token_secret()
        created = int((yield from server_ms()))
        ending = secret[-SHOWN_CHARACTERS:]
        token = Token(new_token_id(), digest_of(secret), created, note, ending)
        # A note may hold half a character, as the arguments of a command may.
        packed = msgpack.packb((SHAPE, _SEALED, *token), unicode_errors="backslashreplace")
        sealed = self.signer.sign(_PURPOSE, packed)
        yield from ask_one(b"HSET", self.keys.tokens, token.token, sealed)
        return NewToken(token.token, secret)

    def find(self, token: str) -> Op[Token | None]:
        """The token of that id; None if there is none, or none that can be trusted."""
        sealed = yield from ask_one(b"HGET", self.keys.tokens, token)
        return self._open(token, sealed)

    def listed(self) -> Op[list[Token]]:
        """All tokens, the oldest first."""
        key = self.keys.tokens
        reply = yield from ask_one(b"HGETALL", key)
        found = [
            self._open(reading.text(field, key) or "", sealed)
            for field, sealed in reading.pairs(reply)
        ]
        return sorted(
            (each for each in found if each is not None), key=lambda each: (each.created, each)
        )

    def revoke(self, token: str) -> Op[bool]:
        """Forget the token; False if there is none of that id."""
        return bool((yield from ask_one(b"HDEL", self.keys.tokens, token)))

    def _open(self, token: str, sealed: bytes | None) -> Token | None:
        if sealed is None:
            return None
        try:
            kind, *fields = unpack_fields(self.signer.verify(_PURPOSE, sealed), _KINDS)
        except Error as error:
            skip(f"the token {token}", str(error))
            return None
        opened = Token(*fields)
        return opened if (kind, opened.token) == (_SEALED, token) else None


def digest_of(secret: str) -> bytes:
    """What is kept of a secret; a fast digest is enough, as secrets are random and long."""
    return hashlib.sha256(secret.encode(errors="surrogateescape")).digest()
