"""Every query of every dashboard has an answer on a Prometheus that has scraped a busy installation."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.grafana.busy_run import BusyRun, busy_run
from tests.support.servers import no_process_left
from tests.support.waiting import wait_until
from tests.support.web.dashboards import Dashboard, dashboards, filled

FUNCTIONS = ("resize", "scan", "page")
VALUES = {
    "job": ".*",
    "environment": ".*",
    "app": "shop",
    "pool": ".*",
    "instance": ".*",
    "__rate_interval": "30s",
    "__range": "5m",
}
# Has values only where the autoscaler shows pools apart.
OPTIONAL = {"pool"}
pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="Prometheus is not installed here: the dashboards' queries were not tried",
)


def empty(run: BusyRun, dashboard: Dashboard) -> list[str]:
    """The queries that find nothing, whichever function is looked at."""
    return [
        f"{dashboard.path.stem}, {panel.title}: {query.expr}"
        for panel in dashboard.panels
        for query in panel.queries
        if not any(
            run.prometheus.query(filled(query.expr, VALUES | {"function": function}))
            for function in FUNCTIONS
        )
    ]


def without_choice(run: BusyRun, dashboard: Dashboard) -> list[str]:
    """The variables that have no values to choose from."""
    missing = []
    for variable in dashboard.variables.values():
        if variable["type"] == "query" and variable["name"] not in OPTIONAL:
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert asked is not None, variable
            metric = filled(asked[1], VALUES | {"function": FUNCTIONS[0]})
            if not run.prometheus.label_values(asked[2], metric):
                missing.append(f"{dashboard.path.stem}: {variable['name']}")
    return missing


def unhealthy(run: BusyRun) -> list[str]:
    """The alerts that Prometheus cannot evaluate, and the two that this run should cause."""
    groups = run.prometheus.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert rules
    caused = {"QmodalCrashLoop", "QmodalDeadLetters"}
    seen = {each.labels["alertname"] for each in run.prometheus.query("ALERTS")}
    return [each["name"] for each in rules if each["health"] != "ok"] + sorted(caused - seen)


# One test, as the run is what takes time, and each process of the suite would have one of its own.
@pytest.mark.timeout(300)
def test_dashboards_and_alerts_of_a_busy_installation_lack_nothing(tmp_path: Path) -> None:
    left: list[str] = []
    with no_process_left(), busy_run(tmp_path, pace=0) as run:
        archived = 'qmodal_inputs_total{function="archive",outcome="value"} > 0'
        found = run.prometheus.query
        wait_until(lambda: found(archived), what="archive runs", seconds=90, pause=0.2)
        run.pause("archive")

        def lacks_nothing() -> bool:
            left[:] = unhealthy(run)
            for dashboard in dashboards().values():
                left.extend((*empty(run, dashboard), *without_choice(run, dashboard)))
            return not left

        with suppress(AssertionError):
            wait_until(lacks_nothing, what="nothing is left", seconds=90, pause=0.5)
    assert left == []
