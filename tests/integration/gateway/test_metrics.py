"""Metrics of a gateway, as Prometheus scrapes them, and its log in JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qmodal.client.client import current
from tests.support.stacks import ROOT
from tests.support.waiting import wait_until
from tests.support.web.scraping import Scrape, fetch, free_port, lint, scrape, unexplained
from tests.support.web.served import Served, served


@pytest.fixture(scope="module")
def measured(gated: Any) -> Iterator[tuple[Served, int]]:
    """A gateway with metrics, and their port."""
    port = free_port()
    with served(current().settings, QMODAL_METRICS_PORT=str(port)) as running:
        wait_until(lambda: fetch(port, "/healthz")[0] == 200, what="it serves metrics", seconds=30)
        yield running, port


def until(port: int, is_so: Callable[[Scrape], object]) -> Scrape:
    """The first scrape of which that is so."""

    def seen() -> Scrape | None:
        found = scrape(port)
        return found if is_so(found) else None

    found = wait_until(seen, what="it is counted", seconds=30, pause=0.1)
    assert found is not None
    return found


LABELS = {"environment": "main", "app": "gated", "function": "web"}


def test_requests_are_counted_by_function_and_class_of_status(
    measured: tuple[Served, int],
) -> None:
    gateway, port = measured
    assert {gateway.get("/gated/web/told").status_code for _ in range(5)} == {200}
    assert gateway.get("/gated/web/break").status_code == 502
    assert gateway.get("/no-such-app/at-all").status_code == 404
    found = until(port, lambda seen: seen.total("qmodal_gateway_requests_total") >= 7)
    assert found.value("qmodal_gateway_requests_total", **LABELS, code="2xx") == 5
    assert found.value("qmodal_gateway_requests_total", **LABELS, code="5xx") == 1
    nowhere = {"environment": "", "app": "", "function": "", "code": "4xx"}
    assert found.value("qmodal_gateway_requests_total", **nowhere) == 1
    assert found.value("qmodal_gateway_time_to_first_byte_seconds_count", **LABELS) == 6
    assert found.value("qmodal_gateway_requests_in_flight") == 0
    assert found.value("qmodal_gateway_streams_open") == 0
    assert found.value("qmodal_redis_up") == 1
    assert fetch(port, "/readyz")[0] == 200
    assert unexplained(found) == set()
    assert lint(port) == ""


def test_a_response_that_goes_on_is_a_stream(measured: tuple[Served, int], tmp_path: Path) -> None:
    gateway, port = measured
    params = {"folder": str(tmp_path), "count": "1"}
    with (
        gateway.client() as client,
        client.stream("GET", "/gated/web/stream", params=params) as got,
    ):
        assert got.status_code == 200
        found = scrape(port)
        assert found.value("qmodal_gateway_streams_open") == 1
        assert found.value("qmodal_gateway_requests_in_flight") == 1
        (tmp_path / "next-0").touch()
        got.read()
    until(port, lambda seen: seen.value("qmodal_gateway_streams_open") == 0)


def test_the_log_is_json_if_that_is_asked_for(gated: Any, tmp_path: Path) -> None:
    """Without a server a gateway says that it waits."""
    program = (
        "from qmodal.services.gateway.options import Reporting;"
        "from qmodal.services.gateway.service import serve;"
        "serve(port=0, reporting=Reporting(log_json=True))"
    )
    settings = replace(current().settings, redis_url=f"unix://{tmp_path}/nobody")
    environ = {**os.environ, **settings.to_environ(), "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-P", "-c", program]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, env=environ, text=True) as process:
        try:
            assert process.stderr is not None
            lines = (json.loads(line) for line in process.stderr)
            event = next(line for line in lines if line.get("event"))
        finally:
            process.kill()
    assert (event["event"], event["level"]) == ("gateway.waits", "warning")
    assert event["message"] == event["reason"]
