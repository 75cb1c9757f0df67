"""Messages and descriptors that the worker, its templates and its containers pass to each other."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgpack

from qmodal.spec.needs.gpus import MOST_GPUS

# macOS has no SOCK_SEQPACKET for Unix sockets; there nothing relies on noticing a closed other end.
KIND = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
# Those of a start, and the locks of as many GPUs as one container may need.
MOST_DESCRIPTORS = 8 + MOST_GPUS
_MESSAGE_BYTES = 1 << 18
_FLAGS = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_INTS = array("i")


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets that keep the boundaries of messages."""
    return socket.socketpair(socket.AF_UNIX, KIND)


def send(end: socket.socket, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send a small message; raises OSError if the other end is gone or does not read."""
    # A traceback holds whatever user code has put into it, halves of surrogate pairs included.
    packed = msgpack.packb(dict(message), unicode_errors="replace")
    if descriptors:
        socket.send_fds(end, [packed], descriptors)
    else:
        end.send(packed)


def receive(end: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message and its descriptors; None when the other end is closed."""
    # Not `recv_fds`, which forgets the flags: programs that user code starts would inherit them.
    room = socket.CMSG_LEN(MOST_DESCRIPTORS * _INTS.itemsize)
    packed, ancillary, _, _ = end.recvmsg(_MESSAGE_BYTES, room, _FLAGS)
    if not packed:
        return None
    return unpack(packed), [fd for _, _, data in ancillary for fd in _passed(data)]


def _passed(data: bytes) -> list[int]:
    found = array("i", data[: len(data) - len(data) % _INTS.itemsize]).tolist()
    for fd in found if not _FLAGS else ():
        os.set_inheritable(fd, False)
    return found


def unpack(packed: bytes) -> dict[str, Any]:
    """The message in these bytes; an empty one if they hold none, as user code can write to a socket."""
    try:
        message = msgpack.unpackb(packed, strict_map_key=False)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def hold(content: bytes) -> int:
    """A descriptor of an anonymous file with this content, which may be larger than a message."""
    if sys.platform == "linux":
        fd = os.memfd_create("qmodal-request", os.MFD_CLOEXEC)
    else:
        fd, name = tempfile.mkstemp(prefix="qmodal-request-")
        Path(name).unlink()
    with open(fd, "wb", closefd=False) as stream:
        stream.write(content)
    return fd


def content_of(fd: int) -> bytes:
    """The content of a descriptor from `hold`, which is closed."""
    with open(fd, "rb") as stream:
        stream.seek(0)
        return stream.read()
