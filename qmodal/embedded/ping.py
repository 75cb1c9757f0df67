"""Whether a server answers on a Unix socket, asked with a bare socket because it must cost nothing."""

from __future__ import annotations

import socket
from typing import Literal

State = Literal["silent", "busy", "loading", "ready"]
# It is there, and will serve others than us, or us later.
_BUSY = (b"-BUSY", b"-MASTERDOWN", b"-ERR max number of clients")


def ping(path: str, password: str = "", *, timeout: float = 0.5) -> State:
    """What the server at this socket is doing; `silent`: there is none.

    `loading`: it is reading its append-only file back. `busy`: it has not answered within `timeout`
    seconds, or has no time for us. Nobody may take that for a server that is not there.
    """
    request = f"AUTH {password}\r\nPING\r\n" if password else "PING\r\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(path)
            return _asked(connection, request)
    except BlockingIOError:  # as many wait for it to accept as it lets wait
        return "busy"
    except OSError:
        return "silent"


def _asked(connection: socket.socket, request: str) -> State:
    try:
        connection.sendall(request.encode())
        *_, last = _lines(connection, request.count("\n")).splitlines() or [b""]
    except TimeoutError:
        return "busy"
    except (BrokenPipeError, ConnectionResetError):  # without a place for us it hangs up
        return "busy"
    if not last:
        return "silent"
    if last.startswith(b"-LOADING"):
        return "loading"
    return "busy" if last.startswith(_BUSY) else "ready"


def _lines(connection: socket.socket, count: int) -> bytes:
    received = b""
    while received.count(b"\n") < count:
        chunk = connection.recv(4096)
        if not chunk:
            break
        received += chunk
    return received
