"""A relay between processes and their server that loses messages, or passes them on twice."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path


class Fate(Enum):
    """What becomes of a command. One that is lost takes its connection with it: that is how commands are lost."""

    PASSES = "passes"
    TWICE = "twice"  # the server runs it twice, and one reply comes back
    LOST = "lost"  # the server never sees it
    UNANSWERED = "unanswered"  # the server runs it, and its reply is lost


Judge = Callable[[list[bytes]], Fate]


class Relay:
    """Passes commands and replies on: `judge` says what becomes of each command, and each hint comes `hints` times."""

    def __init__(self, folder: Path, server: str, judge: Judge, hints: int) -> None:
        self.lost = self.doubled = 0
        self._server, self._judge, self._hints = server, judge, hints
        self._path = folder / "r"
        self._sockets: list[socket.socket] = []
        self._listening = self._keep(socket.socket(socket.AF_UNIX))
        self._listening.bind(str(self._path))
        self._listening.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """What a process behind the relay takes for its server."""
        return f"unix://{self._path}"

    def close(self) -> None:
        """End all connections."""
        _end(*self._sockets)

    def _keep(self, made: socket.socket) -> socket.socket:
        self._sockets.append(made)
        return made

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._keep(self._listening.accept()[0])
                far = self._keep(socket.socket(socket.AF_UNIX))
                far.connect(self._server)
                fates: deque[Fate] = deque()
                for passing in (self._pass_commands, self._pass_replies):
                    threading.Thread(target=passing, args=(near, far, fates), daemon=True).start()

    def _pass_commands(self, near: socket.socket, far: socket.socket, fates: deque[Fate]) -> None:
        with contextlib.suppress(OSError):
            for frame in _frames(near):
                fate = self._judge(frame.split(b"\r\n")[2::2])
                self.lost += fate in (Fate.LOST, Fate.UNANSWERED)
                self.doubled += fate is Fate.TWICE
                if fate is Fate.LOST:
                    break
                # Before it is sent, as the reply may come at once.
                fates.extend([fate, Fate.PASSES] if fate is Fate.TWICE else [fate])
                far.sendall(frame * (2 if fate is Fate.TWICE else 1))
        _end(near, far)

    def _pass_replies(self, near: socket.socket, far: socket.socket, fates: deque[Fate]) -> None:
        with contextlib.suppress(OSError):
            for frame in _frames(far):
                if frame[1:].startswith(b"3\r\n$7\r\nmessage\r\n"):
                    near.sendall(frame * self._hints)
                    continue
                fate = fates.popleft()
                if fate is Fate.UNANSWERED:
                    break
                if fate is not Fate.TWICE:  # the reply of the second one counts
                    near.sendall(frame)
        _end(near, far)


def _end(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


def _frames(source: socket.socket) -> Iterator[bytes]:
    """The commands or replies that come, one by one."""
    buffer = b""
    while content := source.recv(1 << 20):
        buffer += content
        while (end := _end_of(buffer, 0)) is not None:
            yield buffer[:end]
            buffer = buffer[end:]


def _end_of(buffer: bytes, start: int) -> int | None:
    """Where the value of the protocol that begins there ends; None if it is not whole."""
    end = buffer.find(b"\r\n", start)
    if end < 0:
        return None
    kind, after = buffer[start : start + 1], end + 2
    if kind in b"+-:,_#(":
        return after
    count = int(buffer[start + 1 : end])
    if kind in b"$=!":
        after += count + 2 if count >= 0 else 0
        return after if after <= len(buffer) else None
    for _ in range(count * (2 if kind == b"%" else 1)):
        inner = _end_of(buffer, after)
        if inner is None:
            return None
        after = inner
    return after


@contextmanager
def relay(url: str, judge: Judge, *, hints: int = 1) -> Iterator[Relay]:
    """One to the server of that URL, which is a Unix socket's."""
    with tempfile.TemporaryDirectory(prefix="qm-") as folder:
        made = Relay(Path(folder), url.removeprefix("unix://"), judge, hints)
        try:
            yield made
        finally:
            made.close()
