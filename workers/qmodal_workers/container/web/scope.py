"""The scopes that ASGI apps get for a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from qmodal.wire.web import Request

Scope = dict[str, Any]
# With this version of the specification `send` raises OSError once the client has left, so that frameworks
# need no task that listens for that.
VERSIONS = {"version": "3.0", "spec_version": "2.4"}
_SOCKET_SCHEMES = {"http": "ws", "https": "wss"}
_SUBPROTOCOLS = b"sec-websocket-protocol"


def http_scope(request: Request, state: Mapping[str, Any]) -> Scope:
    """The scope of an HTTP request; `state` is what the app's lifespan has set."""
    return {
        "type": "http",
        "method": request.method,
        "extensions": {},
        **_common(request, state),
    }


def websocket_scope(request: Request, state: Mapping[str, Any]) -> Scope:
    """The scope of a websocket, which may be refused with a response."""
    common = _common(request, state)
    common["scheme"] = _SOCKET_SCHEMES.get(request.scheme, request.scheme)
    offered = [value for name, value in common["headers"] if name == _SUBPROTOCOLS]
    return {
        "type": "websocket",
        "subprotocols": [
            each.strip() for value in offered for each in value.decode("latin-1").split(",")
        ],
        "extensions": {"websocket.http.response": {}},
        **common,
    }


def raw_root(root_path: str) -> bytes:
    """The prefix of a path as it stands in URLs."""
    return (root_path if root_path.isascii() else quote(root_path)).encode()


def _common(request: Request, state: Mapping[str, Any]) -> Scope:
    raw_path, root_path = request.raw_path, request.root_path
    path = unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path
    client, server = request.client, request.server
    return {
        "asgi": VERSIONS,
        "http_version": request.http_version,
        "scheme": request.scheme,
        # Both hold the prefix, as other servers have it.
        "path": root_path + path.decode("utf-8", "replace"),
        "raw_path": raw_root(root_path) + raw_path,
        "root_path": root_path,
        "query_string": request.query,
        "headers": list(map(tuple, request.headers)),
        "client": None if client is None else tuple(client),
        "server": None if server is None else tuple(server),
        "state": dict(state),
    }
