"""Limits of a pool that several programs change at once: each change is there afterwards, and says when it was made."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from qmodal.client.client import Client
from qmodal.config import Settings
from tests.support.stacks import ROOT
from tests.support.stage import Stage, options

ROUNDS = 40
NAMES = ("min_containers", "buffer_containers", "scaledown_window")
UPDATER = """
import os, sys
from qmodal.client.client import Client
from qmodal.config import Settings
client = Client(Settings.from_environ(os.environ))
app, pool, name, rounds = sys.argv[1:]
sys.stdin.readline()
for n in range(2, int(rounds) + 2):
    merged = client.run(client.apps.override(app, pool, {name: n}))
    assert merged[name] == n, merged
client.close()
"""


def test_programs_that_change_different_limits_lose_none(
    client: Client, settings: Settings, tmp_path: Path
) -> None:
    stage = Stage(client)
    stage.publish(f=options())
    began = time.time() * 1000
    programs = [_updater(settings, stage, name) for name in NAMES]
    for each in programs:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    said = [each.communicate(timeout=60)[1] for each in programs]
    assert [each.returncode for each in programs] == [0] * len(NAMES), said
    found = client.run(client.apps.overridden(stage.app_id, stage.pools["f"]))
    assert {name: value for name, (value, _) in found.items()} == dict.fromkeys(NAMES, ROUNDS + 1)
    assert all(began - 60_000 < since < began + 120_000 for _, since in found.values())
    client.run(client.apps.stop(stage.record()))


def _updater(settings: Settings, stage: Stage, name: str) -> subprocess.Popen[str]:
    """A program that changes one limit again and again, each time looking whether its change is there."""
    return subprocess.Popen(
        [sys.executable, "-c", UPDATER, stage.app_id, stage.pools["f"], name, str(ROUNDS)],
        cwd=ROOT,
        env=settings.to_environ(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
