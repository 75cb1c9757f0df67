"""One connection to Redis: commands out in one write, replies in order.

The sockets are ours: a client's command layer, its retries (which repeat writes), its response shapes
(which depend on the wire protocol) and its way of reading took a third of a call's time, and its
modules 5 MiB of every process. Only what is more than a plain socket is opened by redis-py.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import hiredis

from qmodal.transport.errors import LostError, NotReadyError, ReplyError
from qmodal.transport.operation import Command, Packed, Reply
from qmodal.transport.sockets.endpoint import Endpoint, plain_endpoint
from qmodal.transport.sockets.login import check_login
from qmodal.transport.sockets.opening import CONNECT_SECONDS, open_blocking
from qmodal.transport.sockets.spin import Spin, is_plain

# The longest BLOCK is 5 s; a reply that is 3 s late means that the peer is gone.
BLOCK_SECONDS = 5.0
READ_SECONDS = BLOCK_SECONDS + 3.0
# What one receive takes at most.
BUFFER_BYTES = 1 << 20
# For how much the kernel is asked to have room, if the other side reads slowly, on a connection that is pushed to.
PUSH_BYTES = 512 * 1024
NOTHING = object()
_pack: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command
LOST = (LostError, OSError)
WATCHED = "redis+sentinel://"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is and how to get in."""

    url: str = field(repr=False)

    def plain(self) -> Endpoint | None:
        """Where it is, if a plain socket leads there; raises ConfigurationError for a URL that leads nowhere."""
        found = plain_endpoint(self.url)
        if self.is_watched:
            from qmodal.transport.sockets import sentinel

            sentinel.watch(self.url)
        elif found is None:
            # Here and where it opens one: redis-py is large, and few URLs need it.
            from qmodal.transport.sockets import redis_py

            redis_py.check_url(self.url)
        return found

    @property
    def is_watched(self) -> bool:
        """Whether it is that of Sentinels, who are asked for the server's with each connection."""
        return self.url.startswith(WATCHED)

    def master(self) -> Address:
        """The address of the server itself; of Sentinels that of their master now. Blocks; raises LostError."""
        if not self.is_watched:
            return self
        from qmodal.transport.sockets import sentinel

        return Address(sentinel.master_url(self.url))


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


def new_reader() -> hiredis.Reader:
    """A parser of replies; `gets` gives NOTHING until a reply is complete."""
    return hiredis.Reader(protocolError=LostError, replyError=ReplyError, notEnoughData=NOTHING)


class Connection:
    """A blocking connection; not for use by two threads at once."""

    __slots__ = (
        *("_address", "_answers", "_buffer", "_endpoint", "_feed"),
        *("_pid", "_reader", "_sock", "_waits"),
    )

    def __init__(self, address: Address) -> None:
        self._sock: socket.socket | None = None
        self._pid = 0  # of the process that has connected
        self._address = address
        self._endpoint = address.plain()
        # Replies come soon; what a blocking command waits for may take any time.
        self._answers, self._waits = Spin(), Spin()
        self._renew()
        # A bytearray's zeros would be written, a mebibyte for every connection; and private, as templates
        # make connections for their containers, which must not receive into the same memory.
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._buffer = memoryview(mmap.mmap(-1, BUFFER_BYTES, flags=flags))

    def __del__(self) -> None:
        # One that ends with its program is closed by nobody; that is no reason for a warning.
        if self._sock is not None:
            self._sock.close()

    def connect(
        self, connect_seconds: float = CONNECT_SECONDS, read_seconds: float = READ_SECONDS
    ) -> None:
        """Connect and log in; raises LOST and ConfigurationError."""
        self._pid = os.getpid()
        address, endpoint = self._address, self._endpoint
        if address.is_watched:
            address = address.master()
            endpoint = address.plain()
        if endpoint is None:
            from qmodal.transport.sockets import redis_py  # as in `Address.plain`

            sock = redis_py.open_blocking(address.url, connect_seconds, read_seconds)
        else:
            sock = open_blocking(endpoint, connect_seconds)
            self._log_in(sock, endpoint, read_seconds)
        _leave_timeouts_to_the_kernel(sock)
        self._sock = sock

    def _log_in(self, sock: socket.socket, endpoint: Endpoint, seconds: float) -> None:
        try:
            sock.settimeout(seconds)
            self._sock = sock
            if commands := endpoint.login():
                check_login(self.exchange(commands))
        except BaseException as error:
            self.close()
            if isinstance(error, TimeoutError):
                raise TimeoutError("the server does not answer") from None
            raise

    def limit(self, seconds: float) -> None:
        """Connect, if it is not, and give each send and receive from now on no more time than that."""
        if self._sock is None:
            self.connect(seconds, seconds)
        sock: Any = self._sock
        sock.settimeout(seconds)

    @property
    def is_connected(self) -> bool:
        """Whether there is a socket; without one, the first write makes it."""
        return self._sock is not None

    def write(self, commands: Sequence[Packed] | bytes) -> None:
        """Send the commands in one write; bytes: all of them, packed before."""
        if self._sock is None:
            self.connect()
        sock: Any = self._sock
        try:
            sock.sendall(commands if isinstance(commands, bytes) else pack(commands))
        except OSError:
            self._raise_last_words()
            raise

    @property
    def is_pollable(self) -> bool:
        """Whether `push` and `arrived` work: on a plain socket, not with TLS nor under gevent."""
        return is_plain(self._sock)

    def watchable(self) -> int:
        """A copy of its descriptor, for an event loop to watch; the caller closes it. Makes room for `push`."""
        if self._sock is None:
            raise LostError("not connected")
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PUSH_BYTES)
        return os.dup(self._sock.fileno())

    def push(self, commands: Sequence[Packed]) -> None:
        """As `write`, without waiting; LostError if the kernel has no room for all of it.

        After that the connection has to be closed: the server may have a part of a command.
        """
        if self._sock is None:
            raise LostError("not connected")
        data = pack(commands)
        try:
            sent = self._sock.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            raise LostError("the server reads too slowly")

    def arrived(self) -> list[Reply]:
        """The replies that are there, without waiting for more; a lost connection raises."""
        if self._sock is None:
            raise LostError("not connected")
        try:
            count = self._sock.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        if not count:
            raise LostError("the server closed the connection")
        self._feed(self._buffer, 0, count)
        found, gets = [], self._reader.gets
        while (reply := gets()) is not NOTHING:
            found.append(reply)
        return found

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

    def wait(self, seconds: float = 0.0) -> Reply:
        """The same, of a command that blocks on the server, for so long if that is more than BLOCK_SECONDS."""
        if seconds <= BLOCK_SECONDS:
            return self._next(self._waits)
        until = time.monotonic() + seconds + READ_SECONDS - BLOCK_SECONDS
        while True:
            try:
                return self._next(self._waits)
            except (BlockingIOError, TimeoutError):  # what comes later goes on where this stopped
                if time.monotonic() >= until:
                    raise

    def sleep(self) -> Reply:
        """The same, without looking for it before sleeping: others have work for the processor."""
        return self._next(None)

    def replies(self, count: int) -> list[Reply]:
        """The next replies, as `read` gives them; what a server says before it hangs up is raised."""
        found: list[Reply] = []
        gets, receive = self._reader.gets, self._answers.receive
        try:
            while len(found) < count:
                reply = gets()
                if reply is not NOTHING:
                    found.append(reply)
                    continue
                # As `_next` does it; calls have more steps than this loop.
                if self._sock is None:
                    raise LostError("not connected")
                received = receive(self._sock, self._buffer)
                if not received:
                    raise LostError("the server closed the connection")
                self._feed(self._buffer, 0, received)
        except LOST:
            raise_said(found)
            raise
        return found

    def _next(self, spin: Spin | None) -> Reply:
        gets = self._reader.gets
        while (reply := gets()) is NOTHING:
            if self._sock is None:
                raise LostError("not connected")
            if spin is None:
                count = self._sock.recv_into(self._buffer)
            else:
                count = spin.receive(self._sock, self._buffer)
            if not count:
                raise LostError("the server closed the connection")
            self._feed(self._buffer, 0, count)
        return reply

    def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send, then read exactly as many replies as were sent."""
        self.write(commands)
        return self.replies(len(commands))

    def close(self) -> None:
        """Drop the connection; whatever it still waits for is lost with it."""
        sock, self._sock = self._sock, None
        self._renew()
        if sock is None:
            return
        # Ended at once for whoever has a copy or reads from it; not the parent's, in a fork.
        if self._pid == os.getpid():
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        sock.close()

    def shut(self) -> None:
        """By another thread: whoever reads from it loses it now."""
        sock = self._sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _renew(self) -> None:
        self._reader = new_reader()
        self._feed: Any = self._reader.feed  # its types know no offsets
