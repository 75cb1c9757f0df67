"""A Prometheus process that scrapes every second, and its answers."""

from __future__ import annotations

import json
import math
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.waiting import wait_until
from tests.support.web.scraping import fetch, free_port

# Nothing of a test goes through a proxy of the machine.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Series:
    """What a query has found under these labels: values by their times, oldest first, without those that are none."""

    labels: dict[str, str]
    points: list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One that runs."""

    port: int

    def ask(self, path: str, **parameters: str | float) -> Any:
        """The data of the answer; fails with what is wrong with the question."""
        query = urllib.parse.urlencode(parameters)
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}"
        try:
            with _opener.open(url, timeout=30) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expr: str, at: float | None = None) -> list[Series]:
        """What an expression is now, or was at that second of the epoch."""
        found = self.ask("query", query=expr, **({} if at is None else {"time": at}))
        assert found["resultType"] == "vector", (expr, found["resultType"])
        return _known([(each["metric"], [each["value"]]) for each in found["result"]])

    def query_range(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        """What it was from `start` to `end`, every `step` seconds."""
        found = self.ask("query_range", query=expr, start=start, end=end, step=step)
        return _known([(each["metric"], each["values"]) for each in found["result"]])

    def label_values(self, label: str, metric: str) -> list[str]:
        """The values that a label has on those metrics."""
        return [str(each) for each in self.ask(f"label/{label}/values", **{"match[]": metric})]


def _known(found: list[tuple[dict[str, str], list[Any]]]) -> list[Series]:
    made = [
        Series(
            labels,
            [(time, float(text)) for time, text in values if math.isfinite(float(text))],
        )
        for labels, values in found
    ]
    return [each for each in made if each.points]


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, int], rules: Path) -> Iterator[Prometheus]:
    """One that scrapes these ports of this machine, each under the instance that is its name."""
    scraped = [
        {"targets": [f"127.0.0.1:{port}"], "labels": {"instance": name}}
        for name, port in targets.items()
    ]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "qmodal", "static_configs": scraped}],
    }
    path, port = folder / "prometheus.yml", free_port()
    path.write_text(yaml.safe_dump(config))
    command = [
        "prometheus",
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            wait_until(lambda: fetch(port, "/-/ready")[0] == 200, what="Prometheus is ready")
            yield Prometheus(port)
        finally:
            process.kill()
