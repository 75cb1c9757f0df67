"""A connected socket that an event loop watches; it can be closed after its loop has ended.

A transport is closed by one more round of its loop. Programs close loops, and drop them, without
giving them one: then a transport stays open until it is collected, which is a ResourceWarning, with
uvloop in the middle of `loop.close()`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from qmodal.transport.connection import READ_SECONDS

# What one receive takes at most, as in asyncio's own transports.
RECEIVE_BYTES = 256 * 1024


class LoopSocket:
    """A socket whose bytes go to a protocol, and which one task at a time writes to.

    It knows its loop only while that runs: whoever keeps idle connections by loop keeps no loop.
    """

    __slots__ = ("_receiver", "_sock", "_waiting")

    def __init__(self, sock: socket.socket, receiver: asyncio.Protocol) -> None:
        self._sock = sock
        self._receiver = receiver
        self._waiting: list[asyncio.Future[None]] = []  # shared with the watch: who waits for room
        sock.setblocking(False)
        watch = _Watch(sock, receiver, self._waiting)
        asyncio.get_running_loop().add_reader(sock.fileno(), watch.receive)

    async def write(self, data: bytes) -> None:
        """Give all of it to the kernel; raises OSError, TimeoutError if that has no room for long."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._sock.send(rest) :]
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                self._take_last_words()
                raise
            if rest:
                await self._room()

    def push(self, data: bytes) -> bytes:
        """Give the kernel as much of it as it has room for; the rest. Raises OSError."""
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return data
        return data[sent:]

    def _take_last_words(self) -> None:
        """What a server has said that ended the connection before we wrote, so that writing failed first."""
        with contextlib.suppress(OSError):
            self._receiver.data_received(self._sock.recv(RECEIVE_BYTES))

    async def _room(self) -> None:
        loop, number = asyncio.get_running_loop(), self._sock.fileno()
        has_room = loop.create_future()
        loop.add_writer(number, _wake, has_room)
        self._waiting.append(has_room)
        try:
            async with asyncio.timeout(READ_SECONDS):
                await has_room
        except TimeoutError:
            raise TimeoutError("the server reads nothing") from None
        finally:
            self._waiting.remove(has_room)
            if self._sock.fileno() == number:  # it may have been lost meanwhile
                loop.remove_writer(number)

    def close(self) -> None:
        """Close it in its running loop, also in the middle of a write, which fails then."""
        number = self._sock.fileno()
        if number >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(number)
            # What is not removed would be taken for that of the next socket with this number.
            loop.remove_writer(number)
            self._sock.close()
            _wake_all(self._waiting)

    def abandon(self) -> None:
        """Close it without its loop, which will not run any more."""
        self._sock.close()


class _Watch:
    """A loop's only reference to a socket: freed with the loop, it closes the socket."""

    __slots__ = ("_receiver", "_sock", "_waiting")

    def __init__(
        self,
        sock: socket.socket,
        receiver: asyncio.Protocol,
        waiting: list[asyncio.Future[None]],
    ) -> None:
        self._sock = sock
        self._receiver = receiver
        self._waiting = waiting

    def __del__(self) -> None:
        self._sock.close()

    def receive(self) -> None:
        """Pass on what has come."""
        try:
            data = self._sock.recv(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error)
            return
        if data:
            self._receiver.data_received(data)
        else:
            self._end(None)

    def _end(self, error: OSError | None) -> None:
        loop, number = asyncio.get_running_loop(), self._sock.fileno()
        loop.remove_reader(number)
        loop.remove_writer(number)
        self._sock.close()
        _wake_all(self._waiting)
        self._receiver.connection_lost(error)


def _wake_all(writers: list[asyncio.Future[None]]) -> None:
    """Let them find their socket closed, which nothing else would tell them."""
    for writer in writers:
        _wake(writer)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
