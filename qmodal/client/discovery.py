"""Which server and which key: as set, else those of a running `qmodal up` on this machine."""

from __future__ import annotations

import urllib.parse
from dataclasses import replace

from qmodal.config import Settings
from qmodal.exception import ConfigurationError

# Without a key and with --insecure, all boxes must still sign with the same one.
INSECURE_KEY = b"qmodal --insecure: no protection"
_LOOPBACK = ("localhost", "127.0.0.1", "::1", "")


def discovered(settings: Settings) -> Settings:
    """The settings with a server and a key where they can be had; raises ConfigurationError."""
    if settings.redis_url is None:
        from qmodal.embedded.home import running

        return running(settings) or settings
    if settings.signing_key is not None:
        return settings
    return _with_default_keys(settings, settings.redis_url)


def _with_default_keys(settings: Settings, url: str) -> Settings:
    if settings.insecure:
        return replace(settings, signing_key=INSECURE_KEY)
    if not is_near(url):
        raise ConfigurationError(
            "this Redis is on another machine, and there is no signing key: whoever can write to it "
            "could run code here. Set QMODAL_SIGNING_KEY to the same secret (32 characters or more) "
            "on all machines, or pass --insecure."
        )
    from qmodal.embedded.home import Home

    home = Home(settings.home)
    home.prepare()
    return home.keyed(settings)


def is_near(url: str) -> bool:
    """Whether the server is on this machine: a Unix socket or a loopback address. What Sentinels lead to may be anywhere."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "redis+sentinel":
        return False
    host = parts.hostname or ""
    return parts.scheme.startswith("unix") or host in _LOOPBACK or host.startswith("127.")
