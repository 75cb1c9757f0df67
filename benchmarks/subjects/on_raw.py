"""The limit: two processes, bare sockets and two streams, with nothing that a real queue needs.

There is an acknowledgement, because a queue without one is no queue, and an envelope of the usual
size. There is no signature, no script, no retry, no lease and no error, so nothing that has them can
be faster. `python -m benchmarks.subjects.on_raw` is the process that answers.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hiredis
import msgpack

from benchmarks import settings
from benchmarks.shape import Blocking, Commands
from benchmarks.tasks import TASKS

INPUTS, OUTPUTS, GROUP = b"raw:inputs", b"raw:outputs", b"answering"
CHUNK = 100
# What the answering side claims at once.
COUNT = CHUNK if settings.AT_ITS_BEST else 1
BLOCK_MS = 5000
RECEIVE_BYTES = 1 << 20
CALL, MAC = os.urandom(16), b"m" * 16
Command = tuple[str | bytes | int, ...]
Entry = tuple[bytes, bytes]
_Reader: Any = hiredis.Reader
pack: Callable[[Any], bytes] = hiredis.pack_command


class Wire:
    """One connection: commands out in one write, their replies back."""

    def __init__(self) -> None:
        if settings.SOCKET:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(settings.SOCKET)
        else:
            self._socket = socket.create_connection((settings.HOST, settings.PORT))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = _Reader(notEnoughData=Ellipsis)
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))

    def exchange(self, *commands: Command) -> list[Any]:
        """The replies; raises the first error among them."""
        self._socket.sendall(b"".join([pack(command) for command in commands]))
        return [self._reply() for _ in commands]

    def _reply(self) -> Any:
        while (reply := self._reader.gets()) is Ellipsis:
            size = self._socket.recv_into(self._buffer)
            if not size:
                raise ConnectionError
            self._reader.feed(self._buffer[:size])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class Subject(Blocking):
    """The asking side; a handle is the input's index."""

    cannot: Mapping[str, str] = {
        "w6": "has no containers, only a process",
        "w7": "has no recovery",
        "w9-threads": "has one connection",
        "w10": "claims in chunks, whatever they hold",
        "kept": "keeps nothing of a finished call",
    }

    def commands(self) -> Commands:
        return [(sys.executable, "-m", "benchmarks.subjects.on_raw")] * settings.WORKERS

    def open(self) -> None:
        self._wire = Wire()
        self._wire.exchange(("XGROUP", "CREATE", INPUTS, GROUP, "0", "MKSTREAM"))
        self._last: bytes = b"0-0"
        self._results: dict[int, Any] = {}
        self._index = 0

    def close(self) -> None:
        self._wire.close()

    def submit(self, task: str, value: Any) -> int:
        self._wire.exchange(self._submission(task, value))
        return self._index

    def submit_many(self, task: str, values: Sequence[Any]) -> Sequence[int]:
        first = self._index + 1
        for begin in range(0, len(values), CHUNK):
            chunk = values[begin : begin + CHUNK]
            self._wire.exchange(*[self._submission(task, value) for value in chunk])
        return range(first, self._index + 1)

    def result(self, handle: int) -> Any:
        # One at a time here too: a reader that takes 100 belongs to the map.
        while handle not in self._results:
            self._take(self._wire.exchange(self._read(1))[0])
        return self._results.pop(handle)

    def call(self, task: str, value: Any) -> Any:
        self._take(self._wire.exchange(self._submission(task, value), self._read(1))[1])
        return self._results.pop(self._index)

    def map(self, task: str, values: Sequence[Any]) -> list[Any]:
        handles = self.submit_many(task, values)
        while len(self._results) < len(handles):
            self._take(self._wire.exchange(self._read(CHUNK))[0])
        results, self._results = self._results, {}
        self._wire.exchange(("XTRIM", OUTPUTS, "MAXLEN", 0))
        return [results[handle] for handle in handles]

    def _submission(self, task: str, value: Any) -> Command:
        self._index += 1
        envelope = [1, CALL, self._index, task, value, {}, 1.5, 300, 0, "raw:outputs", MAC]
        return ("XADD", INPUTS, "*", "e", msgpack.packb(envelope))

    def _read(self, count: int) -> Command:
        waiting = ("XREAD", "COUNT", count, "BLOCK", BLOCK_MS)
        return (*waiting, "STREAMS", OUTPUTS, self._last)

    def _take(self, reply: Any) -> None:
        if not reply:
            raise TimeoutError(f"no answer within {BLOCK_MS} ms")
        for self._last, body in _entries(reply):
            _, _, index, _, value, _ = msgpack.unpackb(body)
            self._results[index] = value


def answer_for_ever(wire: Wire) -> None:
    """Claim inputs, answer them, and claim the next ones with the same write."""
    claim: Command = (
        *("XREADGROUP", "GROUP", GROUP, f"of {os.getpid()}", "COUNT", COUNT),
        *("BLOCK", BLOCK_MS, "STREAMS", INPUTS, ">"),
    )
    claimed = wire.exchange(claim)[0]
    while True:
        entries = _entries(claimed) if claimed else []
        claimed = wire.exchange(*_settlement(entries), claim)[-1]


def _settlement(entries: list[Entry]) -> list[Command]:
    if not entries:
        return []
    ids = [entry for entry, _ in entries]
    return [
        *[("XADD", OUTPUTS, "*", "o", _answer(body)) for _, body in entries],
        ("XACK", INPUTS, GROUP, *ids),
        ("XDEL", INPUTS, *ids),
    ]


def _answer(body: bytes) -> bytes:
    _, call, index, task, value, _, created, *_ = msgpack.unpackb(body)
    answer: bytes = msgpack.packb([1, call, index, True, TASKS[task](value), created])
    return answer


def _entries(reply: Any) -> list[Entry]:
    return [(entry, fields[1]) for entry, fields in reply[0][1]]


if __name__ == "__main__":
    with contextlib.suppress(ConnectionError, hiredis.ReplyError):
        answer_for_ever(Wire())
