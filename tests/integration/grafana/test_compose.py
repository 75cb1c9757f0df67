"""compose.yaml as compose reads it, which needs no Docker engine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.stacks import ROOT


def compose(folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """What `config` of compose says of the file; skips where there is no compose."""
    found = next((each for each in (["docker", "compose"], ["docker-compose"]) if _has(each)), None)
    if found is None:
        pytest.skip("docker compose is not installed here: compose.yaml was not read by it")
    plain = {name: value for name, value in os.environ.items() if name != "QMODAL_SIGNING_KEY"}
    none = folder / "env"  # in the place of a person's own .env
    none.touch()
    options = ["--env-file", str(none), "-f", str(ROOT / "compose.yaml")]
    return subprocess.run(
        [*found, *options, "config"],
        env=plain | environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _has(command: list[str]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    asked = [*command, "version"]
    return subprocess.run(asked, capture_output=True, check=False, timeout=60).returncode == 0


def test_compose_accepts_the_file(tmp_path: Path) -> None:
    run = compose(tmp_path, QMODAL_SIGNING_KEY="0" * 64)
    assert run.returncode == 0, run.stderr
    assert f"QMODAL_SIGNING_KEY: '{'0' * 64}'" in run.stdout.replace('"', "'")


def test_without_a_key_compose_says_what_to_do(tmp_path: Path) -> None:
    run = compose(tmp_path)
    assert run.returncode != 0
    assert "set it in .env" in run.stderr
