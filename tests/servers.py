"""Servers for tests, what may stay behind on them, and which processes a test has left."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis

from qmodal.embedded.binary import find_binary
from qmodal.store.keys import PERMANENT
from tests.support import wait_until


@dataclass(frozen=True, slots=True)
class TestServer:
    """A running server process."""

    __test__ = False  # pytest takes the name for a test class

    url: str
    pid: int

    def plain(self) -> redis.Redis:
        """A redis-py client of it, to look from the side; use it in a `with`."""
        return redis.Redis.from_url(self.url)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The server stands still, as in a stall of its machine."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    @contextmanager
    def configured(self, **changes: str) -> Iterator[None]:
        """Settings of the server, changed for a while."""
        names = {name: name.replace("_", "-") for name in changes}
        with self.plain() as plain:
            before = {names[name]: plain.config_get(names[name])[names[name]] for name in changes}
            for name, value in changes.items():
                plain.config_set(names[name], value)
            try:
                yield
            finally:
                for setting, value in before.items():
                    plain.config_set(setting, value)

    def full(self) -> AbstractContextManager[None]:
        """All memory is used up for a while."""
        return self.configured(maxmemory="1")


def server_binary() -> Path:
    """The server under test."""
    named = os.environ.get("QMODAL_TEST_SERVER")
    return Path(named) if named else find_binary()


@contextmanager
def run_server(binary: Path, *options: str) -> Iterator[TestServer]:
    """A server on a Unix socket (pytest's folders are too deep for one) that keeps nothing."""
    with tempfile.TemporaryDirectory(prefix="qm-") as folder:
        socket = Path(folder) / "s"
        command: list[str | Path] = [binary, "--port", "0", "--unixsocket", socket]
        command += [
            "--dir",
            folder,
            "--save",
            "",
            "--appendonly",
            "no",
            "--enable-protected-configs",
            "yes",
            *options,
        ]
        log = Path(folder) / "log"
        with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
            try:
                # Connecting too early only costs another look.
                wait_until(lambda: "eady to accept" in log.read_text(), what=f"{binary} is up")
                yield TestServer(f"unix://{socket}", process.pid)
            finally:
                process.kill()


def leftovers(plain: redis.Redis, prefix: str) -> list[str]:
    """Keys under the prefix that have no lifetime and are not meant to stay."""
    names = [key.decode() for key in plain.scan_iter(f"{prefix}:*", count=1000)]
    return sorted(
        name for name in names if plain.pttl(name) == -1 and name.split("}:")[1] not in PERMANENT
    )


def delete_keys(plain: redis.Redis, prefix: str) -> None:
    """Delete all keys under the prefix."""
    for key in plain.scan_iter(f"{prefix}:*", count=1000):
        plain.unlink(key)


@contextmanager
def no_process_left(seconds: float = 5.0) -> Iterator[None]:
    """Fails if processes that were started inside still live `seconds` after its end."""
    before = set(_offspring())
    yield
    deadline = time.monotonic() + seconds
    while set(_offspring()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    left = set(_offspring()) - before
    assert not left, f"processes that nobody ended: {list(_described(left))}"


def _offspring() -> Iterator[int]:
    for child in psutil.Process().children(recursive=True):
        try:
            if child.status() != psutil.STATUS_ZOMBIE:
                yield child.pid
        except psutil.NoSuchProcess:
            continue


def _described(pids: Iterable[int]) -> Iterator[str]:
    for pid in pids:
        try:
            yield f"{pid} {' '.join(psutil.Process(pid).cmdline())}"
        except psutil.NoSuchProcess:
            continue


@dataclass
class RestartableServer:
    """A server on a Unix socket that keeps what it has acknowledged."""

    command: list[str]
    url: str
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def restart(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it by that signal, if it runs, and start it again; returns when it answers."""
        self.stop(number)
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(self.command, stdout=out, stderr=out)
        wait_until(lambda: "eady to accept" in self.log.read_text(), what="the server is up")

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it by that signal, if it runs."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()


@contextmanager
def restartable_server(folder: Path) -> Iterator[RestartableServer]:
    """One that runs; `folder` has a short path."""
    socket = folder / "s"
    options = ["--port", "0", "--unixsocket", str(socket), "--dir", str(folder)]
    options += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
    made = RestartableServer(
        [str(server_binary()), *options], f"unix://{socket}", folder / "server.log"
    )
    try:
        made.restart()
        yield made
    finally:
        made.stop()
