"""A gateway process for tests, and raw connections to it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from qmodal.config import Settings
from tests.support.stacks import ROOT

SECONDS = 30.0
PROGRAM = "from qmodal.services.gateway.service import serve; serve(host='127.0.0.1', port=0)"


@dataclass
class Served:
    """A gateway that runs; `url` is its base URL."""

    process: subprocess.Popen[str]
    url: str

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        parts = urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 0)

    def client(self, **more: Any) -> httpx.Client:
        """A client of it; use it in a `with`."""
        return httpx.Client(base_url=self.url, timeout=SECONDS, trust_env=False, **more)

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request on a connection of its own."""
        with self.client() as client:
            return client.request(method, path, **more)

    def get(self, path: str, **more: Any) -> httpx.Response:
        """One GET."""
        return self.request("GET", path, **more)

    @contextmanager
    def connection(self) -> Iterator[socket.socket]:
        """A plain connection."""
        with socket.create_connection(self.address, timeout=SECONDS) as made:
            yield made

    def raw(self, sent: bytes) -> bytes:
        """All that comes after these bytes until the gateway closes."""
        with self.connection() as made:
            made.sendall(sent)
            return read_all(made)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by that signal; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


def read_all(connection: socket.socket) -> bytes:
    """All that comes until the other side closes, in whatever way."""
    found = bytearray()
    try:
        while part := connection.recv(65536):
            found += part
    except ConnectionResetError:
        pass
    return bytes(found)


@contextmanager
def served(settings: Settings, *, program: str = PROGRAM, **environ: str) -> Iterator[Served]:
    """A gateway of that server."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    variables = {**settings.to_environ(), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    process = subprocess.Popen(
        [sys.executable, "-P", "-W", "error", "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, **variables, **environ},
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("qmodal web: http"), line
            yield Served(process, line.split()[-1])
        finally:
            process.kill()
