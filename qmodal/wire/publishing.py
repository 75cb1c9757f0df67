"""The publishing key: whoever only runs, calls or serves apps cannot make a version that others run.

A version is signed with the signing key first, as everything else, and then with a publishing key (Ed25519), of which
boxes and callers have the public half only: `publisher id (4) + signature (64) + version`. Without publishing keys
there is no second signature, and whoever has the signing key may publish.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from qmodal.config import Settings
from qmodal.exception import ConfigurationError
from qmodal.wire.signing import BadSignatureError, UnknownKeyError, key_id_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_BYTES = 32
_HEAD = 68
# No signature of anything else that the key may sign one day is one of a version.
_VERSION = b"qmodal version\0"
# Versions that this process has verified; each is an app's, and read again and again.
MOST_VERIFIED = 1000


def public_of(private: bytes) -> bytes:
    """The public half of a publishing key."""
    return _private(private).public_key().public_bytes_raw()


def publisher_id(public: bytes) -> bytes:
    """What signed bytes name a publishing key by."""
    return hashlib.sha256(b"qmodal publisher" + public).digest()[:4]


def with_publisher(settings: Settings, private: bytes) -> Settings:
    """The settings of who may publish with that key, and accepts what it has published."""
    return replace(settings, publishing_key=private, publishers=(public_of(private),))


def complete(settings: Settings) -> Settings:
    """The same settings, which say whose versions are accepted if they have a key to publish with."""
    if settings.publishing_key is None or settings.publishers:
        return settings
    return with_publisher(settings, settings.publishing_key)


class Publisher:
    """Signs versions with the private key, if this process has it, and verifies those of the accepted public keys.

    `signing_id` is the id of the signing key, which is all there is where no publishing key is set.
    """

    def __init__(
        self, signing_id: bytes, private: bytes | None = None, accepted: Collection[bytes] = ()
    ) -> None:
        self.is_separate = bool(accepted)
        self._signing_id = signing_id
        self._private = private
        self._public: bytes | None = None
        # The public keys whose versions are believed, by id.
        self.accepted = {publisher_id(public): public for public in accepted}
        self._verified: dict[bytes, None] = {}
        self._lock = threading.Lock()

    @property
    def public(self) -> bytes | None:
        """The public half of our own key; None without one."""
        if self._public is None and self._private is not None:
            self._public = public_of(self._private)
        return self._public

    @property
    def may_publish(self) -> bool:
        """Whether others will believe what this process publishes."""
        return not self.is_separate or self.public in self.accepted.values()

    def check(self) -> None:
        """Raise ConfigurationError if this process may not publish, before anything is written."""
        if self.may_publish:
            return
        known = ", ".join(key.hex() for key in self.accepted)
        if self._private is None:
            raise ConfigurationError(
                f"this process cannot publish apps: only versions of the publishing key {known} are run, and it does "
                "not have its private half. Deploy where it is, or set QMODAL_PUBLISHING_KEY or "
                "QMODAL_PUBLISHING_KEY_FILE (`qmodal key show --publishing` prints it there)."
            )
        own = (self.public or b"").hex()
        raise ConfigurationError(
            f"QMODAL_PUBLISHING_KEY is not one that QMODAL_PUBLISHERS accepts ({known}): add its public half, {own}, "
            "there and on all boxes and callers, or set the key that they accept."
        )

    def sign(self, version: bytes) -> bytes:
        """The version as it is published; raises ConfigurationError as `check` does."""
        self.check()
        public = self.public
        if self._private is None or public is None:
            return version
        return publisher_id(public) + _private(self._private).sign(_VERSION + version) + version

    def verify(self, data: bytes) -> bytes:
        """The version in what was published; raises UnknownKeyError or BadSignatureError."""
        if not self.is_separate:
            # The key of the version itself, or the publisher of one that was signed twice.
            if data[:4] != self._signing_id and data[_HEAD : _HEAD + 4] == self._signing_id:
                raise UnknownKeyError(
                    f"it was published with the publishing key {key_id_of(data).hex()}, and none is accepted here: set "
                    "QMODAL_PUBLISHERS as on the other machines (`qmodal key show` prints it)."
                )
            return data
        digest = hashlib.sha256(data).digest()
        if digest not in self._verified:
            self._check(data)
            self._remember(digest)
        return data[_HEAD:]

    def _check(self, data: bytes) -> None:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        public = self.accepted.get(key_id_of(data))
        if public is None or len(data) <= _HEAD:
            known = ", ".join(key.hex() for key in self.accepted)
            raise UnknownKeyError(
                f"it was not published with a publishing key that is accepted here ({known}), but with "
                f"{key_id_of(data).hex()}: deploy the app again with one of them, or add its key to QMODAL_PUBLISHERS."
            )
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(
                data[4:_HEAD], _VERSION + data[_HEAD:]
            )
        except (InvalidSignature, ValueError):
            raise BadSignatureError("the publisher's signature does not fit the bytes") from None

    def _remember(self, digest: bytes) -> None:
        with self._lock:
            if len(self._verified) >= MOST_VERIFIED:
                self._verified.clear()
            self._verified[digest] = None


def _private(key: bytes) -> Ed25519PrivateKey:
    # Imported by who publishes, or reads a version, and not by every process: it takes 35 ms, and 2 MiB.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(key)
