"""Sign and verify: nobody who can only write to Redis can run code or forge a result. Seal and open: nor read a secret.

Signed bytes are `key id (4) + MAC (16) + body`. Each direction has its own key, derived from the
root key, so that a result cannot be replayed as a call. Sealed bytes are `key id (4) + AES-SIV`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgpack

from qmodal.exception import Error

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

_is_equal = hmac.compare_digest  # looked up once: it is asked for each input
PURPOSES = ("call", "result", "code", "object", "job")
HEAD = 20
# How places of sealed variables begin: of those that are stored by name, and of those that an app brings along.
STORED, INLINE = "stored", "inline"


class BadSignatureError(Error):
    """The bytes were not signed with the key that they name."""


class UnknownKeyError(Error):
    """The bytes were signed with a key that this process does not have."""


FORGED = (BadSignatureError, UnknownKeyError)


class Signer:
    """One root key; `sign(purpose, body)` and `verify(purpose, data)`."""

    __slots__ = ("_cipher", "_large_key", "_sealing_key", "_states", "fingerprint", "key_id")

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

        self._large_key = hmac.digest(root, b"qmodal large", "sha256")
        self._sealing_key = hmac.digest(root, b"qmodal secret", "sha256")
        self._cipher: AESSIV | None = None

    def sign_large(self, body: bytes) -> bytes:
        """As `sign`, for what is streamed: BLAKE3 takes a quarter of the time for large bodies."""
        return self.key_id + self._large_mac(body) + body

    def verify_large(self, data: bytes) -> bytes:
        """The body of `sign_large`; raises as `verify`."""
        body = self.body_of(data)
        if not _is_equal(self._large_mac(body), data[4:HEAD]):
            raise BadSignatureError("the signature does not fit the bytes")
        return body

    def _large_mac(self, body: bytes) -> bytes:
        from blake3 import blake3

        return blake3(body, key=self._large_key).digest(HEAD - 4)

    def sign(self, purpose: str, body: bytes) -> bytes:
        """The body with its key id and MAC in front."""
        state = self._states[purpose].copy()
        state.update(body)
        return self.key_id + state.digest() + body

    def verify(self, purpose: str, data: bytes) -> bytes:
        """The body, if it was signed with our key; else UnknownKeyError or BadSignatureError."""
        body = self.body_of(data)
        state = self._states[purpose].copy()
        state.update(body)
        if not _is_equal(state.digest(), data[4:HEAD]):
            raise BadSignatureError("the signature does not fit the bytes")
        return body

    def sign_at(self, place: bytes, body: bytes) -> bytes:
        """As `sign`, of what programs keep by name: it verifies at that place only.

        No place may be the beginning of another one, or a part of a body could be taken for one of its place.
        """
        state = self._states["object"].copy()
        state.update(place)
        state.update(body)
        return self.key_id + state.digest() + body

    def verify_at(self, place: bytes, data: bytes) -> bytes:
        """The body of `sign_at`; raises as `verify`."""
        body = self.body_of(data)
        state = self._states["object"].copy()
        state.update(place)
        state.update(body)
        if not _is_equal(state.digest(), data[4:HEAD]):
            raise BadSignatureError("the signature does not fit the bytes at this place")
        return body

    def at(self, place: bytes) -> PlaceSigner:
        """What signs and verifies at that place, for who does so again and again."""
        state = self._states["object"].copy()
        state.update(place)
        return PlaceSigner(self, state)

    def seal(self, variables: Mapping[str, str], place: Sequence[str]) -> bytes:
        """The variables, encrypted so that they open at that place only.

        The same ones at the same place are the same bytes (AES-SIV): what did not change is published as it was.
        """
        # Variables of the environment may hold bytes that are no text.
        body = msgpack.packb(sorted(variables.items()), unicode_errors="surrogateescape")
        return self.key_id + self._siv().encrypt(body, [part.encode() for part in place])

    def open(self, data: bytes, place: Sequence[str]) -> dict[str, str]:
        """The variables that were sealed there; else UnknownKeyError or BadSignatureError."""
        from cryptography.exceptions import InvalidTag

        if not data.startswith(self.key_id):
            raise UnknownKeyError(f"sealed with key {data[:4].hex()}, not {self.key_id.hex()}")
        try:
            opened = self._siv().decrypt(data[4:], [part.encode() for part in place])
        except (InvalidTag, ValueError):
            raise BadSignatureError("they were not sealed for this place") from None
        return dict(msgpack.unpackb(opened, unicode_errors="surrogateescape"))

    def _siv(self) -> AESSIV:
        if self._cipher is None:
            # Imported by who has secrets only: it takes 35 ms, and 2 MiB of a process.
            from cryptography.hazmat.primitives.ciphers.aead import AESSIV
            from cryptography.hazmat.primitives.hashes import SHA256
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF

            derived = HKDF(SHA256(), length=64, salt=None, info=b"qmodal secret AES-SIV")
            self._cipher = AESSIV(derived.derive(self._sealing_key))
        return self._cipher

    def body_of(self, data: bytes) -> bytes:
        """The body of what is signed, not verified yet; raises as `verify` for what cannot be."""
        if len(data) < HEAD:
            raise BadSignatureError("the bytes are too short to be signed")
        if not data.startswith(self.key_id):
            raise UnknownKeyError(f"signed with key {data[:4].hex()}, not {self.key_id.hex()}")
        return data[HEAD:]


class PlaceSigner:
    """`sign_at` and `verify_at` of a signer for one place, which is worked into the MAC once."""

    __slots__ = ("_signer", "_state")

    def __init__(self, signer: Signer, state: hashlib.blake2b) -> None:
        self._signer = signer
        self._state = state

    def sign(self, body: bytes) -> bytes:
        """As `Signer.sign_at`."""
        state = self._state.copy()
        state.update(body)
        return self._signer.key_id + state.digest() + body

    def sign_each(self, bodies: Iterable[bytes]) -> list[bytes]:
        """As `sign`, of each."""
        copy, key_id, signed = self._state.copy, self._signer.key_id, []
        for body in bodies:
            state = copy()
            state.update(body)
            signed.append(key_id + state.digest() + body)
        return signed

    def verify(self, data: bytes) -> bytes:
        """As `Signer.verify_at`."""
        body = self._signer.body_of(data)
        state = self._state.copy()
        state.update(body)
        if not _is_equal(state.digest(), data[4:HEAD]):
            raise BadSignatureError("the signature does not fit the bytes at this place")
        return body


def key_id_of(data: bytes) -> bytes:
    """The id of the key that signed bytes say they were signed with."""
    return data[:4]


def mac_of(data: bytes) -> bytes:
    """The MAC of signed bytes, which identifies exactly this request."""
    return data[4:HEAD]


def digest_of(payload: bytes) -> bytes:
    """32 bytes that name a payload which is stored apart from the signed bytes.

    By BLAKE3, which takes a quarter of the time of SHA-256; it is imported when the first such payload comes.

    >>> digest_of(b"") == bytes.fromhex(
    ...     "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    ... )
    True
    """
    from blake3 import blake3

    return blake3(payload).digest()
