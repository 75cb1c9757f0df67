"""The two sides, both running all the time: uvicorn, and a gateway with all that it takes behind it."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.processes import cpu_seconds
from benchmarks.server import Server, private_server
from benchmarks.web.program import APP, app

UVICORN, CONCURRENT, SINGLE = "uvicorn", "qmodal", "qmodal, one at a time"
START_SECONDS = 60.0
# More than a worker leaves to its containers.
STOP_SECONDS = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One that serves the app: where, and by which processes, by what they are for."""

    name: str
    url: str
    processes: Mapping[str, int]

    def cpu(self) -> dict[str, float]:
        """Seconds of CPU that each process has used."""
        return {role: cpu_seconds([pid]) for role, pid in self.processes.items()}


@contextlib.contextmanager
def sides() -> Iterator[tuple[str, list[Side]]]:
    """The version of the server, and the sides once each of them answers."""
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(_uvicorn())
        server = stack.enter_context(private_server())
        yield server.version, [plain, *stack.enter_context(_gateway(server))]


@contextlib.contextmanager
def _uvicorn() -> Iterator[Side]:
    port = _free_port()
    options = ["benchmarks.web.site:site", "--workers", "1", "--port", str(port)]
    with _running([sys.executable, "-m", "uvicorn", *options, "--log-level", "warning"]) as pid:
        url = f"http://127.0.0.1:{port}"
        yield Side(name=UVICORN, url=url, processes={"app": _answering(url)})
        assert pid


@contextlib.contextmanager
def _gateway(server: Server) -> Iterator[list[Side]]:
    """With an autoscaler, a worker, and a container for each of the two functions."""
    os.environ["QMODAL_REDIS_URL"] = server.url
    os.environ.setdefault("QMODAL_SIGNING_KEY", secrets.token_hex(32))
    port = _free_port()
    program = [sys.executable, "-P", "-m", "qmodal"]
    with contextlib.ExitStack() as stack:
        for name in ("autoscaler", "worker"):
            stack.enter_context(_running([*program, name]))
        gateway = stack.enter_context(_running([*program, "web", "--port", str(port)]))
        stack.enter_context(app.run())
        made = []
        for name, function in ((CONCURRENT, "concurrent"), (SINGLE, "single")):
            url = f"http://127.0.0.1:{port}/{APP}/{function}"
            roles = {"gateway": gateway, "container": _answering(url), "server": server.pid}
            made.append(Side(name=name, url=url, processes=roles))
        yield made


@contextlib.contextmanager
def _running(command: Sequence[str]) -> Iterator[int]:
    """A process during the block; its id. It must not write to our standard output."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2)
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answering(url: str) -> int:
    """The process that answers there, once one does."""
    ends = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{url}/pid", timeout=START_SECONDS) as response:
                return int(response.read())
        except (OSError, urllib.error.HTTPError):
            if time.monotonic() > ends:
                raise
            time.sleep(0.1)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port
