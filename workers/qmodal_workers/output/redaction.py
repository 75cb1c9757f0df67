"""Replaces the signing key and the server's password by stars in output and reports of containers."""

from __future__ import annotations

import urllib.parse

from qmodal.config import Settings
from qmodal.embedded.credentials import password_of

STARS = b"***"
# A shorter password may be part of ordinary words: it is hidden in URLs only.
SHORTEST_PASSWORD = 6


class Redaction:
    """Replaces every spelling of the credentials by stars; without settings it replaces nothing.

    `overlap`: how many bytes at the end of a text may be the beginning of a credential.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        found = set() if settings is None else {*_key_spellings(settings), *_passwords(settings)}
        # Of two that begin alike, the longer one first.
        self._secrets = sorted(found - {b""}, key=lambda secret: (-len(secret), secret))
        self.overlap = max(0, *(len(secret) - 1 for secret in self._secrets), 0)

    def __call__(self, content: bytes) -> bytes:
        """The content without credentials."""
        for secret in self._secrets:
            if secret in content:
                content = content.replace(secret, _stars(secret))
        return content

    def may_span(self, first: bytes, second: bytes) -> bool:
        """Whether a credential may begin in the first text and go on in the second, and behind that."""
        return any(
            first.endswith(secret[:size]) and secret[size:].startswith(second[: len(secret) - size])
            for secret in self._secrets
            for size in range(1, len(secret))
        )

    def text(self, text: str) -> str:
        """The text without credentials."""
        return self(text.encode(errors="surrogatepass")).decode(errors="surrogatepass")


def _stars(secret: bytes) -> bytes:
    """What replaces the secret; the punctuation around a password in a URL stays."""
    return b":***@" if secret[:1] == b":" and secret[-1:] == b"@" else STARS


def _key_spellings(settings: Settings) -> set[bytes]:
    key = settings.signing_key or b""
    return {key, key.hex().encode(), key.hex().upper().encode(), repr(key)[2:-1].encode()}


def _passwords(settings: Settings) -> set[bytes]:
    spelled = password_of(settings.redis_url or "")
    spellings = {spelled.encode(), urllib.parse.unquote(spelled).encode()}
    in_urls = {b":" + each + b"@" for each in spellings if each}
    return in_urls | {each for each in spellings if len(each) >= SHORTEST_PASSWORD}
