"""The alert rules and the configuration of Prometheus, as promtool sees them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.support.web.dashboards import FOLDER

RULES = FOLDER / "prometheus"
pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed here: the alert rules were not tried",
)


@pytest.mark.parametrize(
    "command",
    [
        ("check", "rules", "alerts.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_finds_nothing_wrong(command: tuple[str, ...]) -> None:
    run = subprocess.run(
        ["promtool", *command],
        cwd=RULES,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stdout + run.stderr
