"""What is in grafana/ and compose.yaml: dashboards that fit together, and name only what there is."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from qmodal.cli import program
from qmodal.telemetry.events import TABLE
from tests.integration.grafana.pictures.units import SCALES
from tests.support.stacks import ROOT
from tests.support.web.dashboards import FOLDER, Dashboard, dashboards, filled, variables_in

ALERTS = FOLDER / "prometheus" / "alerts.yml"
COLUMNS = 24
# Variables that Grafana has by itself.
OWN = {"__all", "__rate_interval", "__range", "__data", "__field", "__url_time_range"}
METRIC = re.compile(r"\bqmodal_\w+")
SPAN = re.compile(r"`([^`\n]+)`")
EVENT = re.compile(r"[a-z]+\.[a-z_]+")
Box = tuple[int, int, int, int]
BOARDS = dashboards()


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def rules() -> list[dict[str, Any]]:
    return [rule for group in loaded(ALERTS)["groups"] for rule in group["rules"]]


def explained() -> set[str]:
    """The metrics in the tables of docs/observing.md."""
    return set(METRIC.findall((ROOT / "docs" / "observing.md").read_text("utf-8")))


def unexplained(expr: str) -> set[str]:
    found = {re.sub(r"_(bucket|sum|count)$", "", name) for name in METRIC.findall(expr)}
    return found - explained()


def unknown_spans(text: str) -> list[str]:
    """Events and commands in the text that there are not."""
    known = set(program.list_commands(click.Context(program)))
    found = []
    for span in SPAN.findall(" ".join(text.split())):
        words = span.split()
        if words[0] == "qmodal" and not {words[1], " ".join(words[1:3])} & known:
            found.append(span)
        if EVENT.fullmatch(span) and span not in TABLE:
            found.append(span)
    return found


def boxes(board: Dashboard) -> Iterator[tuple[str, Box]]:
    for each in board.raw["panels"]:
        place = each["gridPos"]
        yield each["title"], (place["x"], place["y"], place["w"], place["h"])


def overlap(one: Box, other: Box) -> bool:
    (x, y, w, h), (x2, y2, w2, h2) = one, other
    return x < x2 + w2 and x2 < x + w and y < y2 + h2 and y2 < y + h


def test_there_are_the_dashboards_that_the_page_names() -> None:
    assert list(BOARDS) == ["autoscaler", "boxes", "function", "overview"]
    uids = Counter(board.raw["uid"] for board in BOARDS.values())
    assert uids == Counter(f"qmodal-{name}" for name in BOARDS)


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
class TestDashboard:
    def test_its_file_is_written_as_the_others(self, board: Dashboard) -> None:
        text = json.dumps(board.raw, indent=2, ensure_ascii=False) + "\n"
        assert board.path.read_text("utf-8") == text

    def test_its_panels_have_ids_and_places_of_their_own(self, board: Dashboard) -> None:
        ids = Counter(each["id"] for each in board.raw["panels"])
        assert set(ids.values()) == {1}
        for (title, box), (other, box2) in itertools.combinations(boxes(board), 2):
            assert not overlap(box, box2), (title, other)
        assert all(x + w <= COLUMNS for _, (x, _, w, _) in boxes(board))

    def test_each_panel_says_what_it_shows_and_in_which_unit(self, board: Dashboard) -> None:
        for panel in board.panels:
            assert panel.raw["description"].endswith("."), panel.title
            assert panel.defaults["unit"], panel.title
            refs = Counter(each["refId"] for each in panel.raw["targets"])
            assert set(refs.values()) == {1}, panel.title
            sources = {each["datasource"]["uid"] for each in (panel.raw, *panel.raw["targets"])}
            assert sources == {"${datasource}"}, panel.title

    def test_the_pictures_know_its_units(self, board: Dashboard) -> None:
        for panel in board.panels:
            pairs = [
                pair
                for each in panel.raw["fieldConfig"]["overrides"]
                for pair in each["properties"]
            ]
            units = {pair["value"] for pair in pairs if pair["id"] == "unit"}
            assert units | {panel.defaults["unit"]} <= set(SCALES), panel.title

    def test_it_uses_the_variables_that_it_has(self, board: Dashboard) -> None:
        used = variables_in(json.dumps(board.raw["panels"]))
        used |= variables_in(json.dumps(board.raw["templating"]))
        assert used - OWN == set(board.variables)
        for query in (query for panel in board.panels for query in panel.queries):
            assert "$job" in query.expr or "ALERTS" in query.expr, query.expr

    def test_its_links_lead_to_dashboards_and_their_variables(self, board: Dashboard) -> None:
        for uid, query in re.findall(r"/d/([\w-]+)/[\w-]+\?([^\"]+)", json.dumps(board.raw)):
            target = BOARDS[uid.removeprefix("qmodal-")]
            assert set(re.findall(r"var-(\w+)=", query)) <= set(target.variables)

    def test_it_names_metrics_events_and_commands_that_there_are(self, board: Dashboard) -> None:
        for panel in board.panels:
            for query in panel.queries:
                assert unexplained(query.expr) == set(), panel.title
            assert unknown_spans(panel.raw["description"]) == [], panel.title


def test_a_dashboard_for_one_function_has_what_links_to_it_pass() -> None:
    assert {"environment", "app", "function", "pool"} <= set(BOARDS["function"].variables)
    pool = BOARDS["function"].variables["pool"]
    # So that it holds for series without that label, too.
    assert (pool["includeAll"], pool["allValue"]) == (True, ".*")


def test_variables_are_filled_in() -> None:
    values = {"app": "shop", "__range": "5m"}
    assert filled('x{a="$app"}[$__range] ${app:queryparam}', values) == 'x{a="shop"}[5m] shop'
    with pytest.raises(KeyError):
        filled("$other", values)


def test_an_alert_says_what_is_wrong_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}, rule
        assert set(rule["annotations"]) == {"summary", "description"}, rule
        assert unexplained(rule["expr"]) == set(), rule
        assert unknown_spans(rule["annotations"]["description"]) == [], rule


def test_an_alert_has_cases_in_which_it_fires_and_does_not_fire() -> None:
    fires: dict[str, set[bool]] = {}
    for case in loaded(ALERTS.with_name("alerts_test.yml"))["tests"]:
        for check in case.get("promql_expr_test", ()):
            (name,) = re.findall(r'alertname="(\w+)"', check["expr"])
            fires.setdefault(name, set()).add(bool(check["exp_samples"]))
    assert fires == {rule["alert"]: {True, False} for rule in rules()}


def test_the_page_explains_every_alert_with_its_severity() -> None:
    page = (ROOT / "docs" / "grafana.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(Qmodal\w+)` \| (\w+) \|", page, re.MULTILINE))
    assert rows == {rule["alert"]: rule["labels"]["severity"] for rule in rules()}


def compose() -> dict[str, Any]:
    found: dict[str, Any] = loaded(ROOT / "compose.yaml")
    return found


def test_compose_runs_what_the_procfile_has_and_what_looks_at_it() -> None:
    services = compose()["services"]
    lines = (ROOT / "Procfile").read_text().splitlines()
    ours = dict(line.split(": exec ") for line in lines)
    assert set(services) == {*ours, "redis", "prometheus", "grafana"}
    for name, command in ours.items():
        assert services[name]["command"].startswith(command)
        # Without a key, or with one of each process's own, nothing that one submits would run at another.
        assert services[name]["environment"]["QMODAL_SIGNING_KEY"].startswith(
            "${QMODAL_SIGNING_KEY:?"
        )
    assert "--appendonly yes" in services["redis"]["command"]
    assert "--maxmemory-policy noeviction" in services["redis"]["command"]


def test_compose_shows_nothing_to_other_machines() -> None:
    for service in compose()["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def mounts() -> dict[str, str]:
    """Where folders of this repository appear in containers."""
    found = {}
    for service in compose()["services"].values():
        for volume in service.get("volumes", ()):
            source, target, *_ = volume.split(":")
            if source.startswith("."):
                assert (ROOT / source).is_dir(), source
                found[source] = target
            else:
                assert source in compose()["volumes"]
    return found


def test_grafana_finds_what_is_provisioned() -> None:
    provisioned = loaded(FOLDER / "provisioning" / "dashboards" / "qmodal.yaml")["providers"]
    assert [each["options"]["path"] for each in provisioned] == [mounts()["./grafana/dashboards"]]
    (source,) = loaded(FOLDER / "provisioning" / "datasources" / "prometheus.yaml")["datasources"]
    config = loaded(FOLDER / "prometheus" / "prometheus.yml")
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
    grafana = compose()["services"]["grafana"]["environment"]
    assert source["url"].removeprefix("$") in grafana
    home = Path(grafana["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == mounts()["./grafana/dashboards"]
    assert (FOLDER / "dashboards" / home.name).exists()


def test_prometheus_scrapes_the_processes_of_compose() -> None:
    (scraped,) = loaded(FOLDER / "prometheus" / "prometheus.yml")["scrape_configs"]
    (found,) = scraped["dns_sd_configs"]
    services = compose()["services"]
    assert set(found["names"]) == {"autoscaler", "worker", "web", "control"}
    for name in found["names"]:
        assert services[name]["environment"]["QMODAL_METRICS_PORT"] == str(found["port"])
