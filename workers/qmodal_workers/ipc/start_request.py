"""The start of a container: its request, its descriptors, and its reports to the worker."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgpack

LARGEST_MESSAGE = 1 << 18
# Characters of a text in a message, which has a limit; the end is kept, as it says most of a traceback.
LONGEST_REPORTED_TEXT = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """Everything a container needs to start; it verifies both signed documents again."""

    container: str
    worker: str
    pool: str
    spec: bytes  # signed PoolSpec
    version: bytes  # signed Version
    code: str | None  # folder of the unpacked source bundle
    variables: bytes  # packed ContainerVariables: set before user code is imported or entered
    settings: Mapping[str, str] = field(repr=False)  # with the key: they never become variables
    mark: int = 0  # the mark of all of its processes; 0 = none
    processors: tuple[int, ...] = ()  # the only ones that it may use; empty: all
    parent: int = 0  # pid of the worker, which the container must not outlive; 0 = do not check

    def pack(self) -> bytes:
        """The request as a message."""
        packed: bytes = msgpack.packb(
            {name: getattr(self, name) for name in self.__dataclass_fields__}
        )
        return packed

    @classmethod
    def unpack(cls, message: bytes) -> StartRequest:
        """The request in a message from our own worker."""
        return cls(**msgpack.unpackb(message))


@dataclass(frozen=True, slots=True)
class Descriptors:
    """The descriptors that a container gets: two pipes, a SOCK_SEQPACKET socket and its record."""

    stdout: int
    stderr: int
    control: int
    record: int

    def as_tuple(self) -> tuple[int, int, int, int]:
        """The descriptors in the order in which they are passed."""
        return self.stdout, self.stderr, self.control, self.record


class ControlSocket:
    """The container's end of its control socket; each message is one small map.

    `{"pid": n}` when it exists, `{"ready": start_ms, "connection": n, "cpu": ms}` when it can claim (`cpu`: of a
    processor, so far),
    `{"failed": text}` when importing or entering failed (it then exits with status 1),
    `{"stop": reason, "unfit": bool}` when it ends by itself (single use, foreign key, newer version
    needed) and has given back what it held; unfit: an input needs another Python, or another
    qmodal, than this box has.
    """

    __slots__ = ("_socket",)

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def send(self, **message: Any) -> None:
        """Report to the worker; a worker that is gone is no error, as PDEATHSIG ends this process."""
        cut = {
            name: value[-LONGEST_REPORTED_TEXT:] if isinstance(value, str) else value
            for name, value in message.items()
        }
        try:
            # The text of an error may hold lone surrogates, which UTF-8 cannot encode.
            self._socket.send(msgpack.packb(cut, unicode_errors="replace"))
        except OSError:
            return

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
