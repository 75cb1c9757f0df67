"""Draws every dashboard from three minutes of a busy installation: `python -m tests.integration.grafana.pictures.draw`.

It needs Prometheus and matplotlib, and writes docs/pictures/; `nox -s pictures` brings the latter.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.integration.grafana.busy_run import BusyRun, busy_run
from tests.support.stacks import ROOT
from tests.support.web.dashboards import dashboards

SECONDS = 170.0
PICTURES = ROOT / "docs" / "pictures"
VALUES = {
    "job": ".*",
    "environment": ".*",
    "app": "shop",
    "function": "report",
    "pool": ".*",
    "instance": ".*",
    "__rate_interval": "10s",
    "__range": f"{SECONDS:.0f}s",
}


def play(run: BusyRun) -> float:
    """Let the run go on for SECONDS, with what people and machines do to it; when it began."""
    began = time.time()
    events: list[tuple[float, Callable[[], None]]] = [
        (50, lambda: run.pause("archive")),
        (120, run.lose_leader),
    ]
    for second, happens in events:
        time.sleep(max(0.0, began + second - time.time()))
        happens()
    time.sleep(max(0.0, began + SECONDS - time.time()))
    return began


def main() -> None:
    """Draw them."""
    if shutil.which("prometheus") is None:
        sys.exit("no pictures: Prometheus is not installed here")
    from tests.integration.grafana.pictures.page import Shot, draw  # brings matplotlib

    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, busy_run(Path(folder), pace=1) as run:
        began = play(run)
        shot = Shot(run.prometheus, began, began + SECONDS, VALUES)
        for name, dashboard in dashboards().items():
            draw(dashboard, shot, PICTURES / f"{name}.png")
            print(PICTURES / f"{name}.png")


if __name__ == "__main__":
    main()
