"""The dashboards of grafana/ as tests and pictures read them: panels, their queries, and variables filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.support.stacks import ROOT

FOLDER = ROOT / "grafana"
VARIABLE = re.compile(r"\$\{(\w+)[^}]*\}|\$(\w+)")


@dataclass(frozen=True)
class Query:
    """One query of a panel; `legend` names its series, `is_instant`: it asks for one moment."""

    expr: str
    legend: str
    is_instant: bool


@dataclass(frozen=True)
class Panel:
    """A panel, but for rows of titles; `raw` is its JSON."""

    raw: dict[str, Any]

    @property
    def title(self) -> str:
        return str(self.raw["title"])

    @property
    def kind(self) -> str:
        """Its type, such as `timeseries`."""
        return str(self.raw["type"])

    @property
    def queries(self) -> list[Query]:
        return [
            Query(each["expr"], each.get("legendFormat", ""), bool(each.get("instant")))
            for each in self.raw["targets"]
        ]

    @property
    def defaults(self) -> dict[str, Any]:
        """What holds for all of its fields: unit, thresholds, and others."""
        found: dict[str, Any] = self.raw["fieldConfig"]["defaults"]
        return found

    def overrides(self, name: str) -> dict[str, Any]:
        """What holds for the field of that name beside them."""
        found: dict[str, Any] = {}
        for each in self.raw["fieldConfig"]["overrides"]:
            wanted = each["matcher"]["options"]
            is_pattern = each["matcher"]["id"] == "byRegexp"
            if re.search(wanted.strip("/"), name) if is_pattern else wanted == name:
                found |= {pair["id"]: pair["value"] for pair in each["properties"]}
        return found


@dataclass(frozen=True)
class Dashboard:
    """A dashboard and its file."""

    path: Path

    @cached_property
    def raw(self) -> dict[str, Any]:
        """Its JSON."""
        found: dict[str, Any] = json.loads(self.path.read_text("utf-8"))
        return found

    @property
    def panels(self) -> list[Panel]:
        return [Panel(each) for each in self.raw["panels"] if each["type"] != "row"]

    @property
    def variables(self) -> dict[str, dict[str, Any]]:
        return {each["name"]: each for each in self.raw["templating"]["list"]}


def dashboards() -> dict[str, Dashboard]:
    """All of them by the names of their files."""
    return {path.stem: Dashboard(path) for path in sorted((FOLDER / "dashboards").glob("*.json"))}


def variables_in(text: str) -> set[str]:
    """The names of the variables that a query or link uses, Grafana's own included."""
    return {braced or plain for braced, plain in VARIABLE.findall(text)}


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with values for its variables; raises KeyError for one without."""
    return VARIABLE.sub(lambda found: values[found[1] or found[2]], text)
