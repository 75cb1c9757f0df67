"""Kills and Ctrl-C around a stack: whatever dies, nothing of a private stack is left."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from qmodal.embedded.home import running_address
from tests.support.stacks import (
    DEAF,
    OWNER,
    SLEEPER,
    connected,
    family,
    first_line,
    program,
    short_folder,
    up,
    wait_until_gone,
)
from tests.support.waiting import wait_until


@contextmanager
def owner(base: Path, children: dict[str, tuple[str, ...]]) -> Iterator[tuple[int, int, Path]]:
    """A program with a private stack: its process id, its supervisor's, and the folder."""
    with program(["-c", OWNER, json.dumps(children)], TMPDIR=str(base)) as process:
        supervisor, folder = first_line(process).split()
        yield process.pid, int(supervisor), Path(folder)


@pytest.fixture
def base() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


def test_nothing_is_left_when_the_client_is_killed(base: Path) -> None:
    with owner(base, {"deaf": DEAF, "one": SLEEPER}) as (client, supervisor, _):
        members = family(supervisor, 5)
        os.kill(client, signal.SIGKILL)
        wait_until_gone(members, seconds=10)
        assert not list(base.iterdir())


def test_nothing_is_left_after_ctrl_c(base: Path) -> None:
    with owner(base, {"one": SLEEPER, "two": SLEEPER}) as (client, supervisor, _):
        members = family(supervisor, 4)
        os.killpg(client, signal.SIGINT)
        wait_until_gone([client, *members], seconds=10)
        assert not list(base.iterdir())


def test_all_are_gone_when_the_supervisor_is_killed_and_the_next_start_sweeps(base: Path) -> None:
    with owner(base, {"deaf": DEAF, "one": SLEEPER}) as (client, supervisor, folder):
        server_and_children = [p.pid for p in psutil.Process(supervisor).children()]
        family(supervisor, 5)
        os.kill(supervisor, signal.SIGKILL)
        wait_until_gone(server_and_children, seconds=10)
        os.kill(client, signal.SIGKILL)
        assert folder.exists()
        with owner(base, {"one": SLEEPER}) as (_, _, second):
            assert not folder.exists()
            assert [second] == list(base.iterdir())


def test_a_private_server_that_dies_ends_its_stack(base: Path) -> None:
    with owner(base, {"one": SLEEPER}) as (_, supervisor, _):
        members = family(supervisor, 3)
        server = next(p for p in members if "valkey-server" in psutil.Process(p).name())
        os.kill(server, signal.SIGKILL)
        wait_until_gone(members, seconds=10)
        assert not list(base.iterdir())


def test_ctrl_c_ends_up_cleanly_and_a_second_one_at_once(base: Path) -> None:
    with up(base / "home", child="sh -c 'trap \"\" TERM; sleep 600'") as process:
        first_line(process)
        supervisor = psutil.Process(process.pid).children()[0].pid
        members = family(supervisor, 4)
        os.killpg(process.pid, signal.SIGINT)
        with pytest.raises(psutil.TimeoutExpired):
            psutil.Process(process.pid).wait(0.5)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(10) == 0
        wait_until_gone(members, seconds=10)
        assert process.stdout is not None
        assert "qmodal is down" in process.stdout.read()


def test_up_starts_again_after_it_was_killed_and_has_its_data(base: Path) -> None:
    home = base / "home"
    with up(home) as process:
        first_line(process)
        supervisor = psutil.Process(process.pid).children()[0].pid
        members = family(supervisor, 3)
        address = running_address(home)
        assert address is not None
        with connected(address[0]) as client:
            client.set("a", "b")
        os.kill(supervisor, signal.SIGKILL)
        wait_until_gone(members, seconds=10)
        assert process.wait(10) == 1
    with up(home) as process:
        first_line(process)
        found = wait_until(lambda: running_address(home), what="the second one answers")
        assert found == address
        with connected(address[0]) as client:
            assert client.get("a") == "b"
        process.terminate()
        process.wait(10)
