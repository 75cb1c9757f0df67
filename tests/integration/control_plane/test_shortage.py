"""`--on-shortage` with a real leader: when its command is run, how often, and what its failure changes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.spec.options import validated_options
from qmodal.transport.operation import ask_one
from qmodal_autoscaler.control import shortage
from qmodal_autoscaler.control.shortage_command import ShortageCommand
from qmodal_autoscaler.process import AutoscalerOptions
from tests.support.stacks import program
from tests.support.stage import Stage, autoscaling, options

# Writes down what it is told, and fails.
COMMAND = """
import sys
with open(sys.argv[1], "a") as file:
    file.write(sys.stdin.read())
raise SystemExit(3)
"""

# `qmodal autoscaler` that waits for less.
PROGRAM = """
from qmodal_autoscaler.control import shortage
shortage.LASTING_SECONDS = 0.3
from qmodal_autoscaler.cli import autoscaler
autoscaler()
"""


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortage, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(shortage, "LASTING_SECONDS", 0.3)


def command(file: Path, every: float) -> AutoscalerOptions:
    argv = [sys.executable, "-c", COMMAND, str(file)]
    return AutoscalerOptions(on_shortage=ShortageCommand(argv, every=every))


def told(file: Path) -> list[dict[str, Any]]:
    """What the command was told each time."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]


def test_its_command_hears_what_no_box_has_room_for_and_may_fail(
    client: Client, settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "told"
    stage = Stage(client)
    with autoscaling(settings, command(file, every=1)):
        worker = stage.worker(max_containers=1)
        stage.publish(
            one=options(), two=options(), three=options(), big=validated_options(gpu="H100")
        )
        for name in ("one", "two", "three", "big"):
            stage.submit(name)
        stage.until(lambda: len(told(file)) >= 2, "it is run again and again")
        first = told(file)[-1]
        assert first["boxes"] == 1
        assert {(*each["gpu"], each["containers"]) for each in first["wanted"]} == {
            (2,),
            ("H100", 1),
        }
        # Its failure has not kept the leader from leading.
        more = stage.worker(max_containers=4)
        stage.until(lambda: len(more.assigned()) == 2, "the new box is used")
        assert len(worker.assigned()) == 1
        stage.close()


def test_another_leader_does_not_have_it_run_again_at_once(
    client: Client, settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "told"
    stage = Stage(client)
    stage.publish(one=options())
    stage.submit("one")  # and there is no box at all
    call = client.fleet.call_for_boxes
    assert [client.run(call(3)), client.run(call(3))] == [True, False]  # another leader has
    with autoscaling(settings, command(file, every=600)):
        stage.until(lambda: told(file), "it is run")
        assert told(file) == [{"boxes": 0, "wanted": told(file)[0]["wanted"]}]
        assert 3_000 < client.run(ask_one(b"PTTL", client.keys.shortage)) <= 600_000
        stage.close()


def test_the_option_gives_it_to_a_program_that_gets_no_key(
    client: Client, settings: Settings, tmp_path: Path
) -> None:
    stage, file = Stage(client), tmp_path / "told"
    stage.publish(one=options())
    stage.submit("one")
    code = f"env > {file}.new; cat >> {file}.new; mv {file}.new {file}; exec sleep 600"
    argv = ["-c", PROGRAM, "--on-shortage", f"sh -c '{code}'"]
    with program(argv, **settings.to_environ()) as process:
        stage.until(file.exists, "it is run", seconds=40)
        process.terminate()  # with what it has started, which would take long
        _, log = process.communicate(timeout=20)
    assert process.returncode == 0, log
    said = file.read_text()
    assert "QMODAL_WANTED=1\n" in said
    assert "QMODAL_BOXES=0\n" in said
    assert "QMODAL_SIGNING_KEY=" not in said
    assert "sh runs, as the boxes lack room" in log
    with autoscaling(settings):
        stage.close()
