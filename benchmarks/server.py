"""The server that all subjects of a run use: the bundled Valkey, private, keeping nothing."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.resp import Look
from qmodal.embedded.server import find_binary, probe_version

START_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, on TCP loopback and on a Unix socket."""

    url: str
    unix_url: str
    version: str
    pid: int

    def empty(self) -> None:
        """Remove all data and scripts, and let go of the memory."""
        look = Look(self.unix_url)
        try:
            look.ask("FLUSHALL", "SYNC")
            look.ask("SCRIPT", "FLUSH", "SYNC")
            look.ask("FUNCTION", "FLUSH", "SYNC")
        finally:
            look.close()


@contextlib.contextmanager
def private_server() -> Iterator[Server]:
    """A server for this run; it and its folder are gone afterwards."""
    binary = find_binary()
    with tempfile.TemporaryDirectory(prefix="qb-") as folder:
        path, port = Path(folder) / "s", free_port()
        command = [
            str(binary),
            "--bind",
            "127.0.0.1",
            "--port",
            str(port),
            "--unixsocket",
            str(path),
        ]
        command += ["--dir", folder, "--save", "", "--appendonly", "no", "--logfile", "log"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
            try:
                _until_up(path, Path(folder) / "log")
                version = str(probe_version(binary))
                yield Server(f"redis://127.0.0.1:{port}/0", f"unix://{path}", version, process.pid)
            finally:
                process.terminate()


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def _until_up(path: Path, log: Path) -> None:
    ends = time.monotonic() + START_SECONDS
    while True:
        try:
            Look(f"unix://{path}").close()
        except OSError:
            if time.monotonic() > ends:
                raise TimeoutError(f"the server does not start: {log.read_text()}") from None
            time.sleep(0.01)
        else:
            return
