"""The headers that a proxy passes on: those between client and server, not those of one connection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from qmodal.wire.web import Header
from qmodal_workers.container.web.scope import raw_root

# RFC 9110, 7.6.1; a connection header may name others.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# What is agreed between the proxy and the server by themselves.
OWN = frozenset({b"expect"})
OWN_OF_WEBSOCKET = frozenset(
    {
        b"content-length",
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"sec-websocket-key",
        b"sec-websocket-protocol",
        b"sec-websocket-version",
    }
)


def passed_on(headers: Iterable[Header], *, also: frozenset[bytes] = frozenset()) -> list[Header]:
    """Those that go on to the other side, their names in lower case, without those named in `also`.

    >>> passed_on([(b"Connection", b"X-Hop, close"), (b"X-Hop", b"1"), (b"Accept", b"*/*")])
    [(b'accept', b'*/*')]
    """
    given = [(bytes(name).lower(), bytes(value)) for name, value in headers]
    named = {
        each.strip().lower()
        for name, value in given
        if name == b"connection"
        for each in value.split(b",")
    }
    dropped = HOP_BY_HOP | named | also
    return [(name, value) for name, value in given if name not in dropped]


def forwarded(scope: Mapping[str, Any]) -> list[Header]:
    """Who the client is, its scheme and what its path began with, where no trusted proxy has said so already.

    >>> forwarded({"headers": [], "client": ("192.0.2.1", 5), "scheme": "wss", "root_path": "/app/f"})
    [(b'x-forwarded-for', b'192.0.2.1'), (b'x-forwarded-proto', b'https'), (b'x-forwarded-prefix', b'/app/f')]
    """
    client, scheme = scope["client"], scope["scheme"]
    told = {
        b"x-forwarded-for": client[0].encode() if client else b"",
        b"x-forwarded-proto": b"https" if scheme in {"https", "wss"} else b"http",
        b"x-forwarded-prefix": raw_root(scope["root_path"]),
    }
    known = {name for name, _ in scope["headers"]}
    return [(name, value) for name, value in told.items() if value and name not in known]


def as_text(headers: Iterable[Header]) -> list[tuple[str, str]]:
    """The same as text, for a client that encodes them as UTF-8."""
    return [(name.decode("latin-1"), _text(value)) for name, value in headers]


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
