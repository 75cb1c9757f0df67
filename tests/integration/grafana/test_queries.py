"""Every query of every dashboard has an answer on a Prometheus that has scraped a busy installation."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

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
    shutil.which("prometheus") is None, reason="Prometheus is not installed here"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BusyRun]:
    """An installation in which everything happens at once, and a pool that was paused."""
    with no_process_left(), busy_run(tmp_path_factory.mktemp("busy"), pace=0) as made:
        archived = 'qmodal_inputs_total{function="archive",outcome="value"} > 0'
        wait_until(
            lambda: made.prometheus.query(archived), what="archive runs", seconds=60, pause=0.2
        )
        made.pause("archive")
        yield made


def empty(run: BusyRun, dashboard: Dashboard) -> list[str]:
    """The queries that find nothing, whichever function is looked at."""
    return [
        f"{panel.title}: {query.expr}"
        for panel in dashboard.panels
        for query in panel.queries
        if not any(
            run.prometheus.query(filled(query.expr, VALUES | {"function": function}))
            for function in FUNCTIONS
        )
    ]


@pytest.mark.parametrize("name", dashboards())
def test_no_query_of_a_dashboard_is_empty(run: BusyRun, name: str) -> None:
    left: list[str] = []

    def is_full() -> bool:
        left[:] = empty(run, dashboards()[name])
        return not left

    try:
        wait_until(is_full, what="every query finds something", seconds=60, pause=0.5)
    except AssertionError as error:
        raise AssertionError("\n".join(left)) from error


@pytest.mark.parametrize("name", dashboards())
def test_variables_have_values_to_choose_from(run: BusyRun, name: str) -> None:
    for variable in dashboards()[name].variables.values():
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert asked is not None, variable
            metric = filled(asked[1], VALUES | {"function": "resize"})
            found = run.prometheus.label_values(asked[2], metric)
            assert found or variable["name"] in OPTIONAL, variable


def test_prometheus_can_evaluate_every_alert(run: BusyRun) -> None:
    def rules() -> list[dict[str, str]]:
        groups = run.prometheus.ask("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    wait_until(
        lambda: all(rule["health"] == "ok" for rule in rules()),
        what="every rule is evaluated",
        seconds=30,
        pause=0.2,
    )
    firing = 'ALERTS{alertname=~"QmodalDeadLetters|QmodalCrashLoop"}'
    wait_until(lambda: len(run.prometheus.query(firing)) >= 2, what="alerts", seconds=60, pause=0.5)
