"""Programs that own stacks, and who lives and who is gone, for tests of the embedded server."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from qmodal.config import Settings
from qmodal.runner.run import ensure_server
from qmodal.source.loader import load_file
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
SLEEPER = ("sleep", "600")
DEAF = ("sh", "-c", "trap '' TERM INT; while :; do sleep 600; done")

OWNER = """
import os, sys, json
from qmodal.embedded.stack import start_private
from qmodal.config import Settings
stack = start_private(Settings.from_environ(os.environ), children=json.loads(sys.argv[1]))
print(stack.supervisor, stack.place.folder, flush=True)
sys.stdin.read()
"""


@contextmanager
def running_program(
    program: Path, factory: pytest.TempPathFactory, environment_name: str | None = None
) -> Iterator[Any]:
    """The module of that file, whose app runs on a stack of its own meanwhile."""
    module: Any = load_file(program)
    with ensure_server(own_home(factory)), module.app.run(environment_name=environment_name):
        yield module


@contextmanager
def deployed_program(program: Path, factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The module of that file, whose app is deployed on a stack of its own."""
    module: Any = load_file(program)
    with ensure_server(own_home(factory)):
        module.app.deploy()
        try:
            yield module
        finally:  # the module is loaded once in a process, and other tests may run its app
            module.app._registry.attach(None)


def own_home(factory: pytest.TempPathFactory) -> Settings:
    """Settings with a home that nothing else uses."""
    return Settings.from_environ({"QMODAL_HOME": str(factory.mktemp("home"))})


def is_gone(pid: int) -> bool:
    """Missing, or a zombie that nobody collects."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def family(supervisor: int, size: int) -> list[int]:
    """The supervisor and its descendants, once there are `size` of them altogether."""

    def members() -> list[int] | None:
        below = psutil.Process(supervisor).children(recursive=True)
        found = [supervisor, *(process.pid for process in below)]
        return found if len(found) >= size else None

    found = wait_until(members, what=f"a stack of {size} processes", pause=0.05)
    assert found is not None
    return found


def wait_until_gone(pids: Sequence[int], *, seconds: float) -> None:
    """Fails with the command lines of all if one still lives after `seconds`."""
    names = {pid: command_line(pid) for pid in pids}
    wait_until(lambda: all(map(is_gone, pids)), what=f"the end of {names}", seconds=seconds)


def command_line(pid: int) -> str:
    """What `ps` shows of it; nothing if it is gone."""
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


@contextmanager
def short_folder() -> Iterator[Path]:
    """An empty folder with a short path; pytest's own are too deep for a socket."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as name:
        yield Path(name)


@contextmanager
def program(argv: Sequence[str], **environ: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program in a session of its own, which is ended afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-P", *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    """What the program prints first; fails with what it complained about."""
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    assert line, process.stderr.read()
    return line.strip()


@contextmanager
def up(home: Path, *options: str, child: str = "sleep 600") -> Iterator[subprocess.Popen[str]]:
    """A `qmodal up` on this state folder."""
    code = "from qmodal.cli.commands.services.up import up; up(prog_name='up')"
    argv = ["-c", code, "--home", str(home), "--child", child, *options]
    with program(argv) as process:
        yield process


@contextmanager
def connected(url: str) -> Iterator[redis.Redis]:
    """A plain client of the server at this address."""
    client = redis.Redis.from_url(url, decode_responses=True)
    try:
        yield client
    finally:
        client.close()
