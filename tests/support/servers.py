"""Servers for tests, what may stay behind on them, and which processes a test has left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis

from qmodal.embedded.server import find_binary
from qmodal.store.keys import PERMANENT
from tests.support.waiting import wait_until


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
def reserved_port() -> Iterator[int]:
    """A port that nobody gets by chance, and that refuses until a server binds it as servers do."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


@contextmanager
def run_server(binary: Path, *options: str) -> Iterator[TestServer]:
    """A server on a Unix socket (pytest's folders are too deep for one) that keeps nothing."""
    with tempfile.TemporaryDirectory(prefix="qm-") as folder:
        path = Path(folder) / "s"
        command: list[str | Path] = [binary, "--port", "0", "--unixsocket", path]
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
                yield TestServer(f"unix://{path}", process.pid)
            finally:
                process.kill()


class Restarted:
    """A server that keeps its data over restarts, and loads them for as long as it is told to.

    `key-load-delay` (microseconds for each key) is a setting of Redis and Valkey for their own tests.
    """

    def __init__(self, binary: Path, folder: Path) -> None:
        self._command: list[str | Path] = [
            *(binary, "--port", "0", "--unixsocket", folder / "s", "--dir", folder, "--save", ""),
            *("--loading-process-events-interval-bytes", "1024", "--rdbcompression", "no"),
        ]
        self.url = f"unix://{folder}/s"
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        wait_until(self.is_ready, what="it is up")
        with self.plain() as plain:
            # It answers between two keys once it has read a kilobyte.
            for number in range(400):
                plain.set(f"filler:{number}", os.urandom(2000))

    def plain(self) -> redis.Redis:
        """A redis-py client of it, to look from the side; use it in a `with`."""
        return redis.Redis.from_url(self.url)

    def is_ready(self) -> bool:
        """Whether it answers, and not that it is loading."""
        try:
            with self.plain() as plain:
                return bool(plain.ping())
        except redis.ConnectionError:
            return False

    def refusals(self) -> int:
        """How many commands it has refused because it is loading."""
        with self.plain() as plain:
            stats: dict[str, dict[str, int]] = plain.info("errorstats")
        return int(stats.get("errorstat_LOADING", {}).get("count", 0))

    def restart(self) -> None:
        """It ends, and comes back as a server that is loading."""
        with self.plain() as plain:
            plain.save()
        self.close()
        command = [*self._command, "--key-load-delay", "100000"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until(self._is_loading, what="it loads")

    def _is_loading(self) -> bool:
        try:
            with self.plain() as plain:
                plain.get("x")
        except redis.BusyLoadingError:
            return True
        except redis.ConnectionError:
            pass
        return False

    def loaded(self) -> None:
        """It reads the rest at once."""
        with self.plain() as plain:
            plain.config_set("key-load-delay", 0)
        wait_until(self.is_ready, what="it has loaded")

    def close(self) -> None:
        """It ends."""
        self._process.kill()
        self._process.wait()


@contextmanager
def restarted_server(binary: Path) -> Iterator[Restarted]:
    """Such a server on a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="qm-") as folder:
        made = Restarted(binary, Path(folder))
        try:
            yield made
        finally:
            made.close()


def leftovers(plain: redis.Redis, prefix: str) -> list[str]:
    """Keys under the prefix that have no lifetime and are not meant to stay."""
    names = [key.decode() for key in plain.scan_iter(f"{prefix}:*", count=1000)]
    looks = plain.pipeline(transaction=False)
    for name in names:
        looks.pttl(name)
    return sorted(
        name
        for name, left in zip(names, looks.execute(), strict=True)
        if left == -1 and name.split("}:")[1] not in PERMANENT
    )


def delete_keys(plain: redis.Redis, prefix: str) -> None:
    """Delete all keys under the prefix."""
    if names := list(plain.scan_iter(f"{prefix}:*", count=1000)):
        plain.unlink(*names)


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
    path = folder / "s"
    options = ["--port", "0", "--unixsocket", str(path), "--dir", str(folder)]
    options += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
    made = RestartableServer(
        [str(server_binary()), *options], f"unix://{path}", folder / "server.log"
    )
    try:
        made.restart()
        yield made
    finally:
        made.stop()
