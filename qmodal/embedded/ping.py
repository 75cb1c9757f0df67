"""Whether a server answers on a Unix socket, asked with a bare socket because it must cost nothing."""

from __future__ import annotations

import socket
from typing import Literal

State = Literal["silent", "loading", "ready"]


def ping(path: str, password: str = "", *, timeout: float = 0.5) -> State:
    """What the server at this socket is doing; `silent` also means that there is none.

    `loading`: it is reading its append-only file back. `timeout` is in seconds.
    """
    request = f"AUTH {password}\r\nPING\r\n" if password else "PING\r\n"
    expected = request.count("\n")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(path)
            connection.sendall(request.encode())
            reply = _lines(connection, expected)
    except OSError:
        return "silent"
    if reply.count(b"\n") < expected:
        return "silent"
    return "loading" if reply.splitlines()[-1].startswith(b"-LOADING") else "ready"


def _lines(connection: socket.socket, count: int) -> bytes:
    received = b""
    while received.count(b"\n") < count:
        chunk = connection.recv(4096)
        if not chunk:
            break
        received += chunk
    return received
