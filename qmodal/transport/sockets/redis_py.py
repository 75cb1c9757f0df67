"""Connections that redis-py opens and logs in: those of `rediss://`, and of URLs with options of its own.

Nothing imports this module before such a URL is there. Once it has connected, its sockets are read and
written as all others are.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

from redis import exceptions as redis_errors
from redis.asyncio import connection as asyncio_connection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.connection import (
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from qmodal.exception import ConfigurationError, clause
from qmodal.transport.errors import LostError, ReplyError
from qmodal.transport.sockets.login import refused
from qmodal.transport.sockets.opening import CONNECT_SECONDS, keepalive

_ASYNC_KINDS: dict[type, type[asyncio_connection.AbstractConnection]] = {
    Connection: asyncio_connection.Connection,
    UnixDomainSocketConnection: asyncio_connection.UnixDomainSocketConnection,
    SSLConnection: asyncio_connection.SSLConnection,
}


def check_url(url: str) -> None:
    """Raise ConfigurationError for a URL that redis-py does not understand or cannot use."""
    _make(url, retry=Retry(NoBackoff(), 0))


def open_blocking(url: str, connect_seconds: float, read_seconds: float) -> socket.socket:
    """A connected socket that is logged in; raises LostError and ConfigurationError."""
    made = _make(
        url,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=read_seconds,
        socket_connect_timeout=connect_seconds,
    )
    try:
        made.connect()
    except redis_errors.RedisError as error:
        raise _translated(error) from error
    sock: socket.socket | None = made._sock
    assert sock is not None
    made._sock = None  # it would close it
    return sock


async def open_async(url: str) -> asyncio_connection.AbstractConnection:
    """A connection of the running loop that is logged in; raises as `open_blocking` does."""
    # With a timeout of its own redis-py writes under `wait_for`, which before Python 3.12 loses
    # a cancellation that arrives together with the end: tasks that were to stop went on.
    made = _make(url, is_async=True, retry=AsyncRetry(NoBackoff(), 0), socket_timeout=None)
    try:
        await made.connect()
    except BaseException as error:  # a cancelled task, too: redis-py leaves open what it has
        made._close()
        if isinstance(error, redis_errors.RedisError):
            raise _translated(error) from error
        raise
    found: asyncio_connection.AbstractConnection = made
    return found


def _make(url: str, *, is_async: bool = False, **given: object) -> Any:
    try:
        found = dict(parse_url(url))
    except ValueError as error:
        raise ConfigurationError(
            f"the Redis URL is not understood ({clause(error)}); write redis://host:6379/0, "
            "rediss://user:password@host or unix:///path/to/socket."
        ) from None
    kind = found.pop("connection_class", Connection)
    if kind is not UnixDomainSocketConnection:
        found.update(socket_keepalive=True, socket_keepalive_options=keepalive())
    found.update(
        protocol=2,
        legacy_responses=False,
        driver_info=None,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        socket_connect_timeout=CONNECT_SECONDS,
    )
    found.update(given)
    try:
        return (_ASYNC_KINDS[kind] if is_async else kind)(**found)
    except (TypeError, ValueError, redis_errors.RedisError) as error:
        raise ConfigurationError(f"the Redis URL cannot be used ({clause(error)}).") from None


def _translated(error: redis_errors.RedisError) -> Exception:
    """Our error for that one. What a server said it keeps in two parts, and over Unix sockets in a cause."""
    opening = error.__context__  # what redis-py has put into words
    if isinstance(opening, ssl.SSLCertVerificationError):
        return ConfigurationError(
            f"the server's certificate is not trusted: {clause(opening)}. Name the file of the authority that "
            "has signed it in QMODAL_REDIS_URL, with ?ssl_ca_certs=FILE, and write the host as the certificate does."
        )
    cause = error.__cause__
    said = cause if isinstance(cause, redis_errors.RedisError) else error
    if said.status_code is not None:
        return refused(ReplyError(f"{said.status_code} {said}"))
    if isinstance(said, redis_errors.ResponseError):
        return refused(ReplyError(str(said)))
    return LostError(str(said))
