"""Open a plain socket to a server, with and without an event loop; whoever is interrupted leaves none open."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Any

from qmodal.transport.errors import LostError
from qmodal.transport.sockets.endpoint import Endpoint

CONNECT_SECONDS = 5.0
Place = tuple[int, Any]  # an address family, and an address in it


def open_blocking(endpoint: Endpoint, seconds: float = CONNECT_SECONDS) -> socket.socket:
    """A connected socket with that timeout; raises LostError, at the latest after so long for an address."""
    try:
        return _open_blocking(endpoint, seconds)
    except (OSError, UnicodeError) as error:
        raise opening_error(endpoint.where, error) from None


def _open_blocking(endpoint: Endpoint, seconds: float) -> socket.socket:
    failure = OSError("there is no address")
    for family, address in _unix(endpoint) or _places(_resolve(endpoint)):
        try:
            sock = _new_socket(family)
        except OSError as error:
            failure = error  # a name may have addresses of a family that this machine does not know
            continue
        try:
            sock.settimeout(seconds)
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


async def open_async(endpoint: Endpoint) -> socket.socket:
    """The same in the running loop, which is not blocked; it may take CONNECT_SECONDS in all."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await _open_async(endpoint)
    except (OSError, UnicodeError) as error:
        raise opening_error(endpoint.where, error) from None


async def _open_async(endpoint: Endpoint) -> socket.socket:
    loop = asyncio.get_running_loop()
    failure = OSError("there is no address")
    for family, address in _unix(endpoint) or await _resolved(endpoint):
        try:
            sock = _new_socket(family)
        except OSError as error:
            failure = error  # as above
            continue
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:  # a cancelled task, too
            sock.close()
            raise
        else:
            return sock
    raise failure


def opening_error(where: str, error: Exception) -> LostError:
    """The error for a socket that could not be opened; it names what redis-py would."""
    if isinstance(error, TimeoutError):
        return LostError("Timeout connecting to server")
    if isinstance(error, OSError) and len(error.args) > 1:
        number, text = error.args[:2]
        return LostError(f"Error {number} connecting to {where}. {text}.")
    return LostError(f"Error {error} connecting to {where}.")


async def _resolved(endpoint: Endpoint) -> list[Place]:
    try:
        return _places(_resolve(endpoint, flags=socket.AI_NUMERICHOST))
    except socket.gaierror:  # a name: to ask for its addresses blocks, so a thread does it
        loop = asyncio.get_running_loop()
        return _places(await loop.run_in_executor(None, _resolve, endpoint))


def _resolve(endpoint: Endpoint, flags: int = 0) -> list[Any]:
    # As bytes, where that says the same: for a str Python loads all that it knows of Unicode.
    host = endpoint.host.encode() if endpoint.host.isascii() else endpoint.host
    found: Callable[..., list[Any]] = socket.getaddrinfo
    return found(host, endpoint.port, 0, socket.SOCK_STREAM, 0, flags)


def _places(found: list[Any]) -> list[Place]:
    return [(family, address) for family, _, _, _, address in found]


def _unix(endpoint: Endpoint) -> list[Place]:
    return [] if endpoint.path is None else [(socket.AF_UNIX, endpoint.path)]


def _new_socket(family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_UNIX:
        return sock
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in keepalive().items():
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
    except OSError:
        sock.close()
        raise
    return sock


def keepalive() -> dict[int, int]:
    """Without TCP_USER_TIMEOUT an unacknowledged write to a vanished host hangs for minutes."""
    if sys.platform != "linux":
        return {}
    return {
        socket.TCP_KEEPIDLE: 5,
        socket.TCP_KEEPINTVL: 2,
        socket.TCP_KEEPCNT: 3,
        socket.TCP_USER_TIMEOUT: 8000,
    }
