"""The limit: two processes, two bare sockets and two streams, with nothing a real queue needs.

There is an acknowledgement, because a queue without one is no queue. There is no signature, no
script, no retry, no lease and no error, so nothing that has them can be faster.
`python -m benchmarks.raw SOCKET` is the process that answers.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import hiredis
import msgpack

INPUTS, OUTPUTS, GROUP = "raw:inputs", "raw:outputs", "answering"
CHUNK = 100
BLOCK_MS = 5000
Command = tuple[str | bytes | int, ...]
Entry = tuple[bytes, bytes]
pack: Callable[[Any], bytes] = hiredis.pack_command


class Wire:
    """One connection: commands out in one write, their replies back."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._reader = hiredis.Reader(notEnoughData=Ellipsis)

    def exchange(self, *commands: Command) -> list[Any]:
        """The replies; raises the first error among them."""
        self._socket.sendall(b"".join(map(pack, commands)))
        return [self._reply() for _ in commands]

    def _reply(self) -> Any:
        while (reply := self._reader.gets()) is Ellipsis:
            received = self._socket.recv(1 << 20)
            if not received:
                raise ConnectionError
            self._reader.feed(received)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class RawLoop:
    """The asking side of the two processes."""

    name = "raw socket"

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._last: bytes = b"0-0"

    def call(self, value: int) -> int:
        """Submit and wait for the answer, in one write."""
        reply = self._wire.exchange(_submission(value), self._read(1))[-1]
        ((_, answer),) = self._take(reply)
        return _answered(answer)

    def submit(self, value: int) -> None:
        """Submit, and wait until the server has said yes."""
        self._wire.exchange(_submission(value))

    def collect(self, count: int) -> list[int]:
        """The next answers, in the order in which they came."""
        answers: list[int] = []
        while len(answers) < count:
            taken = self._take(self._wire.exchange(self._read(CHUNK))[0])
            answers += [_answered(answer) for _, answer in taken]
        self._wire.exchange(("XTRIM", OUTPUTS, "MAXLEN", 0))
        return answers

    def map(self, count: int) -> list[int]:
        """Submit many in chunks, then read all answers."""
        for first in range(0, count, CHUNK):
            chunk = range(first, min(count, first + CHUNK))
            self._wire.exchange(*(_submission(value) for value in chunk))
        return self.collect(count)

    def _read(self, count: int) -> Command:
        return (
            *("XREAD", "COUNT", count, "BLOCK", BLOCK_MS),
            *("STREAMS", OUTPUTS, self._last),
        )

    def _take(self, reply: Any) -> list[Entry]:
        if not reply:
            raise TimeoutError(f"no answer within {BLOCK_MS} ms")
        taken = _entries(reply)
        self._last = taken[-1][0]
        return taken


@contextlib.contextmanager
def raw_loop(path: str) -> Iterator[RawLoop]:
    """Both processes, connected to the server behind this Unix socket."""
    wire = Wire(path)
    wire.exchange(("DEL", INPUTS, OUTPUTS), ("XGROUP", "CREATE", INPUTS, GROUP, "0", "MKSTREAM"))
    with subprocess.Popen([sys.executable, "-m", "benchmarks.raw", path]) as answering:
        try:
            yield RawLoop(wire)
        finally:
            answering.terminate()
            wire.exchange(("DEL", INPUTS, OUTPUTS))
            wire.close()


def answer_for_ever(wire: Wire, function: Callable[[int], int]) -> None:
    """Claim inputs, answer them, and claim the next ones with the same write."""
    claim: Command = (
        *("XREADGROUP", "GROUP", GROUP, "only", "COUNT", CHUNK, "BLOCK", BLOCK_MS),
        *("STREAMS", INPUTS, ">"),
    )
    claimed = wire.exchange(claim)[0]
    while True:
        entries = _entries(claimed) if claimed else []
        claimed = wire.exchange(*_settlement(entries, function), claim)[-1]


def _settlement(entries: list[Entry], function: Callable[[int], int]) -> list[Command]:
    if not entries:
        return []
    ids = [entry for entry, _ in entries]
    answers = [msgpack.packb(["ok", function(_asked(body))]) for _, body in entries]
    return [
        *(("XADD", OUTPUTS, "*", "o", answer) for answer in answers),
        ("XACK", INPUTS, GROUP, *ids),
        ("XDEL", INPUTS, *ids),
    ]


def _submission(value: int) -> Command:
    return ("XADD", INPUTS, "*", "e", msgpack.packb([1, "echo", [value], {}]))


def _entries(reply: Any) -> list[Entry]:
    return [(entry, fields[1]) for entry, fields in reply[0][1]]


def _asked(body: bytes) -> int:
    value: int = msgpack.unpackb(body)[2][0]
    return value


def _answered(body: bytes) -> int:
    value: int = msgpack.unpackb(body)[1]
    return value


if __name__ == "__main__":
    with contextlib.suppress(ConnectionError, hiredis.ReplyError):
        answer_for_ever(Wire(sys.argv[1]), lambda value: value)
