"""Sign and verify: nobody who can only write to Redis can run code or forge a result.

Signed bytes are `key id (4) + MAC (16) + body`. Each direction has its own key, derived from the
root key, so that a result cannot be replayed as a call.
"""

from __future__ import annotations

import hashlib
import hmac

from qmodal.exception import Error

_is_equal = hmac.compare_digest  # looked up once: it is asked for each input
PURPOSES = ("call", "result", "code")
HEAD = 20


class BadSignatureError(Error):
    """The bytes were not signed with the key that they name."""


class UnknownKeyError(Error):
    """The bytes were signed with a key that this process does not have."""


class Signer:
    """One root key; `sign(purpose, body)` and `verify(purpose, data)`."""

    __slots__ = ("_states", "fingerprint", "key_id")

    def __init__(self, root: bytes) -> None:
        self.fingerprint = hashlib.sha256(b"qmodal fingerprint" + root).hexdigest()
        self.key_id = hashlib.sha256(b"qmodal key id" + root).digest()[:4]
        # A keyed state is copied for each MAC: setting the key up costs as much as a small body.
        self._states = {
            purpose: hashlib.blake2b(
                key=hmac.digest(root, f"qmodal {purpose}".encode(), "sha256"), digest_size=16
            )
            for purpose in PURPOSES
        }

    def sign(self, purpose: str, body: bytes) -> bytes:
        """The body with its key id and MAC in front."""
        state = self._states[purpose].copy()
        state.update(body)
        return self.key_id + state.digest() + body

    def verify(self, purpose: str, data: bytes) -> bytes:
        """The body, if it was signed with our key; else UnknownKeyError or BadSignatureError."""
        if len(data) < HEAD:
            raise BadSignatureError("the bytes are too short to be signed")
        if not data.startswith(self.key_id):
            raise UnknownKeyError(f"signed with key {data[:4].hex()}, not {self.key_id.hex()}")
        body = data[HEAD:]
        state = self._states[purpose].copy()
        state.update(body)
        if not _is_equal(state.digest(), data[4:HEAD]):
            raise BadSignatureError("the signature does not fit the bytes")
        return body


def key_id_of(data: bytes) -> bytes:
    """The id of the key that signed bytes say they were signed with."""
    return data[:4]


def mac_of(data: bytes) -> bytes:
    """The MAC of signed bytes, which identifies exactly this request."""
    return data[4:HEAD]
