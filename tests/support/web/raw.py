"""Bytes of HTTP and of websockets that no client library would send."""

from __future__ import annotations

import socket

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def head(line: str, *headers: str, host: str | None = "x") -> bytes:
    """The head of a request, with a Host header unless that is None."""
    lines = [line, *([] if host is None else [f"host: {host}"]), *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def handshake(target: str, *headers: str, line: str = "GET {} HTTP/1.1") -> bytes:
    """The handshake of a websocket."""
    asked = ["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13"]
    return head(line.format(target), *asked, f"sec-websocket-key: {_KEY}", *headers)


def frame(kind: int, data: bytes, *, is_last: bool = True) -> bytes:
    """A frame of a client, masked with zeros."""
    size = len(data)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = bytes([0x80 | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([0x80 | 127]) + size.to_bytes(8, "big")
    return bytes([0x80 * is_last | kind]) + length + bytes(4) + data


def until(connection: socket.socket, last: bytes) -> bytes:
    """What comes, until it ends with these bytes."""
    found = b""
    while not found.endswith(last):
        part = connection.recv(65536)
        assert part, found
        found += part
    return found


def status_of(answer: bytes) -> int:
    """The status of a raw response."""
    assert answer.startswith(b"HTTP/1.1 "), answer
    return int(answer.split()[1])
