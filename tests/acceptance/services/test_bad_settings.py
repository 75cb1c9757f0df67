"""Servers and settings that cannot work: every command says so in one line, and ends with 2."""

from __future__ import annotations

import signal
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import hiredis
import pytest
import redis

from tests.support.commands import started
from tests.support.servers import reserved_port, run_server, server_binary
from tests.support.waiting import wait_until

KEY = "0123456789abcdef" * 4
PROGRAM = """
import qmodal
app = qmodal.App("refused")
@app.function()
def f() -> None: ...
"""
Command = tuple[str, ...]
CLIENTS: dict[str, Command] = {
    "run": ("run", "refused.py"),
    "deploy": ("deploy", "refused.py"),
    "list": ("app", "list"),
}
SERVICES: dict[str, Command] = {
    "worker": ("worker",),
    "autoscaler": ("autoscaler",),
    "web": ("web", "--port", "0"),
}
COMMANDS = CLIENTS | SERVICES
# One of each kind, where all of a kind go the same way that another refusal has shown for all.
TWO = {name: COMMANDS[name] for name in ("list", "worker")}


class _OldServer(socketserver.StreamRequestHandler):
    """Answers as a Redis of another time would."""

    def handle(self) -> None:
        reader = hiredis.Reader()
        while content := self.request.recv(65536):
            reader.feed(content)
            while (command := reader.gets()) is not False:
                self.wfile.write(_old_answer(command))


def _old_answer(command: list[bytes]) -> bytes:
    match command[0].upper():
        case b"INFO":
            about = b"# Server\r\nredis_version:6.2.14\r\nmaxmemory_policy:noeviction\r\n"
            return b"$%d\r\n%s\r\n" % (len(about), about)
        case b"HGETALL":
            return b"*0\r\n"
        case b"SCRIPT":
            return b"$40\r\n" + b"0" * 40 + b"\r\n"
        case _:
            return b"+OK\r\n"


Environ = Mapping[str, str]


@contextmanager
def nothing(**environ: str) -> Iterator[Environ]:
    """No server of ours."""
    yield environ


@contextmanager
def old_server() -> Iterator[Environ]:
    """A server before Redis 7."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _OldServer) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"QMODAL_REDIS_URL": f"redis://127.0.0.1:{server.server_address[1]}"}
        server.shutdown()


@contextmanager
def own_server(*options: str, login: str = "") -> Iterator[Environ]:
    """A server with these options."""
    with run_server(server_binary(), *options) as server:
        yield {"QMODAL_REDIS_URL": server.url.replace("unix://", f"unix://{login}")}


@contextmanager
def used_server() -> Iterator[Environ]:
    """A server that somebody uses with another key."""
    with run_server(server_binary()) as server:
        with redis.Redis.from_url(server.url) as plain:
            plain.hset("qmodal:{fleet}:signing", "01020304", "another")
        yield {"QMODAL_REDIS_URL": server.url}


Refused = tuple[Callable[[], AbstractContextManager[Environ]], Mapping[str, Command], str]
REFUSED: dict[str, Refused] = {
    "scheme": (
        lambda: nothing(QMODAL_REDIS_URL="http://host"),
        COMMANDS,
        "write redis://HOST:PORT/DB",
    ),
    "no address": (lambda: nothing(QMODAL_REDIS_URL="redis://"), TWO, "no usable host or port"),
    "no key for a remote server": (
        lambda: nothing(QMODAL_REDIS_URL="redis://192.0.2.1:6379", QMODAL_SIGNING_KEY=""),
        COMMANDS,
        "Set QMODAL_SIGNING_KEY to the same secret",
    ),
    "short key": (
        lambda: nothing(QMODAL_REDIS_URL="unix:///x", QMODAL_SIGNING_KEY="short"),
        TWO,
        "a signing key needs 16 or more",
    ),
    "old server": (old_server, COMMANDS, "qmodal needs Redis 7.0 or Valkey 8"),
    "no password": (
        lambda: own_server("--requirepass", "right"),
        TWO,
        "Check the user and password",
    ),
    "wrong password": (
        lambda: own_server("--requirepass", "right", login=":wrong@"),
        COMMANDS,
        "Check the user and password",
    ),
    "eviction": (
        lambda: own_server("--maxmemory-policy", "allkeys-lru"),
        COMMANDS,
        "CONFIG SET maxmemory-policy noeviction",
    ),
    "a command that is not there": (
        lambda: nothing(QMODAL_REDIS_URL="unix:///x"),
        {"autoscaler": ("autoscaler", "--on-shortage", "there-is-none --at-all")},
        "there is no program 'there-is-none'",
    ),
    "another key": (used_server, COMMANDS, "set QMODAL_SIGNING_KEY"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "refused.py").write_text(PROGRAM)
    return tmp_path


@pytest.mark.parametrize(("make", "commands", "advice"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_said_in_one_line_by_every_command(
    make: Callable[[], AbstractContextManager[Environ]],
    commands: Mapping[str, Command],
    advice: str,
    folder: Path,
) -> None:
    with make() as environ, ExitStack() as stack:
        more = {"QMODAL_SIGNING_KEY": KEY, **environ}
        running = {
            name: stack.enter_context(started(*argv, cwd=folder, more=more))
            for name, argv in commands.items()
        }
        said = {name: process.communicate(timeout=40) for name, process in running.items()}
        codes = {name: process.returncode for name, process in running.items()}
    assert codes == dict.fromkeys(commands, 2), said
    for name, (output, complaint) in said.items():
        assert output == "", name
        assert len(complaint.splitlines()) == 1, (name, complaint)
        assert advice in complaint, name
        assert "wrong@" not in complaint


def test_a_client_of_a_server_that_is_down_gives_up_soon(folder: Path) -> None:
    more = {"QMODAL_SIGNING_KEY": KEY, "QMODAL_REDIS_URL": "redis://:secret@127.0.0.1:1"}
    begun = time.monotonic()
    with ExitStack() as stack:
        for process in [
            stack.enter_context(started(*argv, cwd=folder, more=more)) for argv in CLIENTS.values()
        ]:
            _, complaint = process.communicate(timeout=40)
            assert process.returncode == 2, complaint
            assert len(complaint.splitlines()) == 1
            assert "Is the server up, and QMODAL_REDIS_URL right?" in complaint
            assert "secret" not in complaint
    assert time.monotonic() - begun < 12  # a program at work would wait for 20 s


def test_a_service_waits_for_a_server_that_is_down_and_says_so(folder: Path) -> None:
    # A host starts everything at once; whoever is there before the server has to wait for it.
    with ExitStack() as stack:
        port = stack.enter_context(reserved_port())
        url = f"redis://127.0.0.1:{port}"
        more = {"QMODAL_SIGNING_KEY": KEY, "QMODAL_REDIS_URL": url}
        running = [
            stack.enter_context(started(*argv, cwd=folder, more=more)) for argv in SERVICES.values()
        ]
        begun = time.monotonic()
        for process in running:
            assert process.stderr is not None
            assert "Is the server up, and QMODAL_REDIS_URL right?" in process.stderr.readline()
        assert time.monotonic() - begun < 12  # a program at work would wait for 20 s
        stack.enter_context(run_server(server_binary(), "--port", str(port)))
        plain = stack.enter_context(redis.Redis.from_url(url))
        names = ("qmodal:{fleet}:workers", "qmodal:{fleet}:leader", "qmodal:{fleet}:gateways")
        wait_until(lambda: plain.exists(*names) == 3, what="all have found the server")
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.communicate(timeout=40)
        assert [process.returncode for process in running] == [0, 0, 0]
