"""A cable between a box and its server that can be cut: a socket that passes everything on."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Cable:
    """Forwards connections to a server's Unix socket; cut, it is silent and refuses nobody."""

    def __init__(self, folder: Path, server: str) -> None:
        self._server = server
        self._path = folder / "c"
        self._whole = threading.Event()
        self._whole.set()
        self._sockets: list[socket.socket] = []
        self._listening = self._keep(socket.socket(socket.AF_UNIX))
        self._listening.bind(str(self._path))
        self._listening.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """What a box behind the cable takes for its server."""
        return f"unix://{self._path}"

    def cut(self) -> None:
        """Nothing passes, in either direction."""
        self._whole.clear()

    def mend(self) -> None:
        """What was on its way arrives, and so does all that follows."""
        self._whole.set()

    def replace(self) -> None:
        """What was on its way is lost; new connections are good."""
        lost, self._sockets[1:] = self._sockets[1:], []
        self._end(lost)
        self.mend()

    def close(self) -> None:
        """End all connections."""
        self._end(self._sockets)
        self.mend()

    def _end(self, sockets: list[socket.socket]) -> None:
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _keep(self, made: socket.socket) -> socket.socket:
        self._sockets.append(made)
        return made

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._keep(self._listening.accept()[0])
                far = self._keep(socket.socket(socket.AF_UNIX))
                far.connect(self._server)
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                self._whole.wait()
                target.sendall(content)
            target.shutdown(socket.SHUT_RDWR)


@contextmanager
def cable(url: str) -> Iterator[Cable]:
    """A whole one to the server of that URL."""
    with tempfile.TemporaryDirectory(prefix="qm-") as folder:
        made = Cable(Path(folder), url.removeprefix("unix://"))
        try:
            yield made
        finally:
            made.close()
