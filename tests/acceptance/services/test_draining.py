"""Boxes as an operator handles them: a real autoscaler and workers, one of which is drained, and no input lost."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import qmodal as library
from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.config import Settings
from tests.support.commands import qmodal, started
from tests.support.waiting import wait_until

PROGRAM = """
import os, time
import qmodal
app = qmodal.App("moving")

@app.function(min_containers=1)
def kept():
    return os.environ["MODAL_REGION"]

@app.function()
def slow(go):
    while not os.path.exists(go):
        time.sleep(0.02)
    return os.environ["MODAL_REGION"]
"""
pytestmark = pytest.mark.leaves_keys


@pytest.fixture
def folder(tmp_path: Path, settings: Settings, client: Client) -> Iterator[Path]:
    """A folder with the program, deployed; calls go to its server."""
    (tmp_path / "moving.py").write_text(PROGRAM)
    said = qmodal("deploy", "moving.py", settings=settings, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    before = clients.use(client)
    yield tmp_path
    clients.use(before)


@dataclass
class Operator:
    """Who starts and stops processes, and looks at boxes with the installed program."""

    folder: Path
    settings: Settings
    stack: ExitStack

    def run(self, *argv: str) -> str:
        said = qmodal(*argv, settings=self.settings, cwd=self.folder)
        assert said.returncode == 0, said.stderr
        return said.stdout

    def start(self, *argv: str) -> subprocess.Popen[str]:
        return self.stack.enter_context(started(*argv, settings=self.settings, cwd=self.folder))

    def boxes(self) -> set[str]:
        rows = json.loads(self.run("worker", "list", "--json"))
        return {row["worker"] for row in rows if row["lease"] > 0}

    def box(self, region: str) -> str:
        """A new box there."""
        known = self.boxes()
        self.start("worker", "--label", f"region={region}", "--max-containers", "4")
        (name,) = wait_until(lambda: self.boxes() - known, what=f"the box in {region} enrolls")
        return name

    def show(self, box: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("worker", "show", box, "--json"))
        return found

    def until_ready(self, pool: str, box: str) -> None:
        """Wait for a container of the pool there."""

        def is_there() -> bool:
            listed = self.show(box)["containers"]
            return any((each["pool"], each["state"]) == (pool, "ready") for each in listed)

        wait_until(is_there, what=f"{pool} is ready on {box}", seconds=40)


@pytest.fixture
def operator(folder: Path, settings: Settings) -> Iterator[Operator]:
    with ExitStack() as stack:
        yield Operator(folder, settings, stack)


def test_a_box_is_drained_and_what_it_ran_goes_on_elsewhere(operator: Operator) -> None:
    kept, slow = (library.Function.from_name("moving", name) for name in ("kept", "slow"))
    go = operator.folder / "go"
    first, autoscaler = operator.box("east"), operator.start("autoscaler")
    assert kept.spawn().get(timeout=30) == "east"
    running = slow.spawn(str(go))
    operator.until_ready("slow", first)
    second = operator.box("west")
    operator.run("worker", "drain", first)
    autoscaler.kill()
    operator.start("autoscaler")
    operator.until_ready("kept", second)
    assert kept.spawn().get(timeout=30) == "west", "the minimum is elsewhere"
    later = slow.spawn(str(go))
    operator.until_ready("slow", second)
    assert operator.show(first)["state"] == "draining", "it still runs an input"
    go.touch()
    operator.run("worker", "drain", first, "--wait")
    emptied = operator.show(first)
    assert (emptied["state"], emptied["containers"]) == ("drained", [])
    assert (running.get(timeout=30), later.get(timeout=30)) == ("east", "west")


def test_a_box_that_is_uncordoned_gets_containers_again(operator: Operator) -> None:
    where = library.Function.from_name("moving", "kept")
    first, second = operator.box("east"), operator.box("west")
    operator.run("worker", "cordon", first)
    operator.start("autoscaler")
    assert where.spawn().get(timeout=30) == "west"
    operator.run("worker", "uncordon", first)
    operator.run("worker", "drain", second, "--wait")
    operator.until_ready("kept", first)
    assert where.spawn().get(timeout=30) == "east"
