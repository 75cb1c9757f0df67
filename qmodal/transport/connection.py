"""One connection to Redis: commands out in one write, replies in order.

redis-py connects, authenticates and speaks TLS; its command layer, its retries (which repeat
writes) and its response shapes (which depend on the wire protocol) are left out. Once it has
connected, its socket is read and written here: its own reading took a third of a call's time.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import hiredis
from redis import exceptions as redis_errors
from redis.backoff import NoBackoff
from redis.connection import (
    Connection as RedisConnection,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from qmodal.exception import ConfigurationError, clause
from qmodal.transport.errors import PASSING, NotReadyError, judge
from qmodal.transport.operation import Command, Packed, Reply
from qmodal.transport.spin import Spin, is_plain

# The longest BLOCK is 5 s; a reply that is 3 s late means that the peer is gone.
BLOCK_SECONDS = 5.0
READ_SECONDS = BLOCK_SECONDS + 3.0
# What one receive takes at most.
BUFFER_BYTES = 1 << 20
NOTHING = object()
_pack: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command
# InvalidResponse: whatever listens there does not speak Redis's protocol.
LOST = (
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
    redis_errors.InvalidResponse,
    OSError,
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is and how to get in."""

    url: str = field(repr=False)

    def parameters(self) -> dict[str, Any]:
        """Keyword arguments for redis-py's connections, `connection_class` among them."""
        try:
            found: dict[str, Any] = dict(parse_url(self.url))
        except ValueError as error:
            raise ConfigurationError(
                f"the Redis URL is not understood ({clause(error)}); write redis://host:6379/0, "
                "rediss://user:password@host or unix:///path/to/socket."
            ) from None
        found.setdefault("connection_class", RedisConnection)
        found.update(
            protocol=2,
            legacy_responses=False,
            driver_info=None,
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
            socket_timeout=READ_SECONDS,
            socket_connect_timeout=5.0,
        )
        if not issubclass(found["connection_class"], UnixDomainSocketConnection):
            found.update(socket_keepalive=True, socket_keepalive_options=_keepalive())
        return found


def _keepalive() -> dict[int, int]:
    """Without TCP_USER_TIMEOUT an unacknowledged write to a vanished host hangs for minutes."""
    if sys.platform != "linux":
        return {}
    return {
        socket.TCP_KEEPIDLE: 5,
        socket.TCP_KEEPINTVL: 2,
        socket.TCP_KEEPCNT: 3,
        socket.TCP_USER_TIMEOUT: 8000,
    }


def refused(error: Exception) -> Exception:
    """The error for a server that answers, and says no to how we log in; or that it is not ready."""
    if judge(error) in PASSING:
        return NotReadyError(str(error))
    return ConfigurationError(
        f"Redis does not accept the connection: {clause(error)}. Check the database number, user and "
        "password in QMODAL_REDIS_URL."
    )


def _leave_timeouts_to_the_kernel(sock: object) -> None:
    """Python asks poll() before each send and receive of a socket with a timeout.

    The kernel keeps the same limits without being asked; half of the system calls of a call were
    those polls. A TLS socket has its own ways.
    """
    if is_plain(sock):
        limit = struct.pack("ll", *divmod(int(READ_SECONDS * 1_000_000), 1_000_000))
        sock.settimeout(None)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def raise_said(replies: Sequence[Reply]) -> None:
    """Raise the last of the replies before a connection ended, if it is an error: it says why."""
    if replies and isinstance(replies[-1], Exception):
        raise NotReadyError(str(replies[-1])) from replies[-1]


def pack(commands: Sequence[Packed]) -> bytes:
    """The commands as one write."""
    return b"".join([each if isinstance(each, bytes) else _pack(each) for each in commands])


def reply_error(text: str) -> redis_errors.ResponseError:
    """An error reply as redis-py's class for errors that servers answer with."""
    return redis_errors.ResponseError(text)


def new_reader() -> hiredis.Reader:
    """A parser of replies; `gets` gives NOTHING until a reply is complete."""
    return hiredis.Reader(
        protocolError=redis_errors.InvalidResponse,
        replyError=reply_error,
        notEnoughData=NOTHING,
    )


class Connection:
    """A blocking connection; not for use by two threads at once."""

    __slots__ = ("_answers", "_buffer", "_connection", "_feed", "_reader", "_sock", "_waits")

    def __init__(self, address: Address) -> None:
        parameters = address.parameters()
        kind: type[RedisConnection] | type[SSLConnection] = parameters.pop("connection_class")
        self._connection = kind(retry=Retry(NoBackoff(), 0), **parameters)
        self._sock: socket.socket | None = None
        # Replies come soon; what a blocking command waits for may take any time.
        self._answers, self._waits = Spin(), Spin()
        self._renew()
        # A bytearray's zeros would be written, a mebibyte for every connection; and private, as templates
        # make connections for their containers, which must not receive into the same memory.
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._buffer = memoryview(mmap.mmap(-1, BUFFER_BYTES, flags=flags))

    def connect(self) -> None:
        """Connect and log in; raises redis-py's connection errors and ConfigurationError."""
        try:
            self._connection.connect()
        except redis_errors.ResponseError as error:
            raise refused(error) from error
        # Made before a fork, it would not shut down what others may hold open, too.
        self._connection.pid = os.getpid()
        sock: Any = self._connection._sock
        _leave_timeouts_to_the_kernel(sock)
        self._sock = sock

    def limit(self, seconds: float) -> None:
        """Connect, if it is not, and give each send and receive from now on no more time than that."""
        if self._sock is None:
            self._connection.socket_connect_timeout = self._connection.socket_timeout = seconds
            self.connect()
        sock: Any = self._sock
        sock.settimeout(seconds)

    @property
    def is_connected(self) -> bool:
        """Whether there is a socket; without one, the first write makes it."""
        return self._sock is not None

    def write(self, commands: Sequence[Packed]) -> None:
        """Send the commands in one write."""
        if self._sock is None:
            self.connect()
        sock: Any = self._sock
        try:
            sock.sendall(pack(commands))
        except OSError:
            self._raise_last_words()
            raise

    def _raise_last_words(self) -> None:
        """Raise what the server said before it ended the connection, if it said why."""
        said = self._reader.gets()
        with contextlib.suppress(*LOST):
            if said is NOTHING and self.is_readable(0):
                said = self._next(self._answers)
        if isinstance(said, Exception):
            raise NotReadyError(str(said)) from said

    def is_readable(self, seconds: float) -> bool:
        """Whether something comes, or the connection ends, within that time; another thread may close it."""
        sock = self._sock
        try:
            poll = select.poll()
            poll.register(-1 if sock is None else sock, select.POLLIN)
            return bool(poll.poll(seconds * 1000))
        except (ValueError, OSError):  # closed
            return True

    def read(self) -> Reply:
        """The next reply; an error reply is returned, not raised. A lost connection raises."""
        return self._next(self._answers)

    def wait(self) -> Reply:
        """The same, of a command that blocks on the server."""
        return self._next(self._waits)

    def replies(self, count: int) -> list[Reply]:
        """The next replies, as `read` gives them; what a server says before it hangs up is raised."""
        found: list[Reply] = []
        try:
            while len(found) < count:
                found.append(self._next(self._answers))
        except LOST:
            raise_said(found)
            raise
        return found

    def _next(self, spin: Spin) -> Reply:
        gets = self._reader.gets
        while (reply := gets()) is NOTHING:
            if self._sock is None:
                raise redis_errors.ConnectionError("not connected")
            count = spin.receive(self._sock, self._buffer)
            if not count:
                raise redis_errors.ConnectionError("the server closed the connection")
            self._feed(self._buffer, 0, count)
        return reply

    def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send, then read exactly as many replies as were sent."""
        self.write(commands)
        return self.replies(len(commands))

    def close(self) -> None:
        """Drop the connection; whatever it still waits for is lost with it."""
        self._sock = None
        self._renew()
        self._connection.disconnect()

    def shut(self) -> None:
        """By another thread: whoever reads from it loses it now."""
        sock = self._sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _renew(self) -> None:
        self._reader = new_reader()
        self._feed: Any = self._reader.feed  # its types know no offsets
