"""Gateways that start, stop and die: which are known, and what becomes of requests."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from qmodal.client.client import current
from tests.support.waiting import wait_until
from tests.support.web.served import PROGRAM, SECONDS, Served, served

JSON_PROGRAM = "from qmodal.services.gateway.options import Reporting; " + PROGRAM.replace(
    "port=0", "port=0, reporting=Reporting(log_json=True)"
)


@pytest.fixture
def leaving(gated: Any) -> Iterator[Served]:
    """A gateway for one test."""
    with served(current().settings) as running:
        yield running


def known() -> set[str]:
    """The URLs of the gateways that live."""
    client = current()
    return {each.url for each in client.run(client.gateways.living())}


def test_gateways_are_known_as_long_as_they_run(gated: Any, leaving: Served) -> None:
    with served(current().settings) as other:
        assert known() >= {leaving.url, other.url}
        assert gated.web.get_web_url() == f"{other.url}/gated-dev/web"
        for each in (leaving, other):
            assert each.get("/gated/web/x").status_code == 200
        assert other.stop() == 0
    assert other.url not in known()
    assert leaving.stop(signal.SIGINT) == 0


def test_a_gateway_that_stops_answers_what_it_has_taken(leaving: Served, tmp_path: Path) -> None:
    waits, streams = tmp_path / "waits", tmp_path / "streams"
    for folder in (waits, streams):
        folder.mkdir()
    with ThreadPoolExecutor(1) as thread, leaving.client() as client:
        whole = thread.submit(leaving.get, "/gated/web/waits", params={"folder": str(waits)})
        params = {"folder": str(streams), "count": "2"}
        with client.stream("GET", "/gated/web/stream", params=params) as got:
            lines = got.iter_lines()
            assert next(lines) == "0"
            wait_until((waits / "began").exists, what="both are under way")
            leaving.process.send_signal(signal.SIGTERM)
            wait_until(lambda: leaving.url not in known(), what="nobody is sent to it")
            (streams / "next-0").touch()
            (streams / "next-1").touch()
            assert list(lines) == ["1"]
        (waits / "go").touch()
        assert whole.result().text == "xxxx"
    assert leaving.process.wait(SECONDS) == 0
    with pytest.raises(httpx.ConnectError):
        leaving.get("/healthz")


def test_no_request_on_an_open_connection_is_dropped_by_a_stop(leaving: Served) -> None:
    refused = threading.Event()

    def ask(_: int) -> int:
        count = 0
        with leaving.client() as client:
            while True:
                try:
                    response = client.get("/gated/web/x")
                except httpx.ConnectError:  # it listens no more
                    refused.set()
                    return count
                assert response.status_code == 200
                count += 1

    with ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(ask, number) for number in range(4)]
        wait_until(lambda: leaving.get("/healthz").status_code == 200, what="it answers")
        leaving.process.send_signal(signal.SIGTERM)
        assert all(answer.result(SECONDS) >= 0 for answer in answers)
    assert leaving.process.wait(SECONDS) == 0


def test_the_second_signal_ends_it_at_once(leaving: Served, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as thread:
        params = {"folder": str(tmp_path)}
        answer = thread.submit(leaving.get, "/gated/web/waits", params=params)
        wait_until((tmp_path / "began").exists, what="it runs")
        leaving.process.send_signal(signal.SIGTERM)
        wait_until(lambda: leaving.url not in known(), what="it stops")
        leaving.process.send_signal(signal.SIGTERM)
        leaving.process.wait(SECONDS)
        assert answer.result().status_code == 503
    wait_until((tmp_path / "cancelled").exists, what="the function is cancelled", seconds=SECONDS)


def test_what_a_killed_gateway_has_streamed_ends(leaving: Served, tmp_path: Path) -> None:
    params = {"folder": str(tmp_path)}
    with (
        leaving.client() as client,
        client.stream("GET", "/gated/web/stream", params=params) as got,
    ):
        assert next(got.iter_lines()) == "0"
        leaving.process.kill()
    wait_until((tmp_path / "ended").exists, what="the function is cancelled", seconds=SECONDS)
    wait_until(lambda: leaving.url not in known(), what="it is forgotten", seconds=SECONDS)


def test_a_gateway_that_has_served_can_still_not_unpickle(gated: Any, tmp_path: Path) -> None:
    program = f"{PROGRAM}; import sys, json; print(json.dumps(sorted(sys.modules)))"
    with served(current().settings, program=program) as running:
        for path in ("x", "fails", f"stream?folder={tmp_path}&count=3&part=x", "break"):
            running.get(f"/gated/web/{path}")
        running.get("/gated/Shop.pages?city=x")
        running.get("/gated/guarded/", headers={"modal-key": "a", "modal-secret": "b"})
        assert running.stop() == 0
        assert running.process.stdout is not None
        modules = set(json.loads(running.process.stdout.readline()))
    assert "qmodal.services.gateway.exchange.http" in modules
    foreign = {"cloudpickle", "fastapi", "pydantic", "aiohttp", "qmodal.functions", "qmodal.app"}
    assert not modules & {*foreign, "qmodal.wire.pickled"}


def test_the_access_log_has_a_line_for_each_request_and_no_secret(
    gated: Any, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    program = f"import sys; sys.stderr = open({str(log)!r}, 'w'); {PROGRAM}"
    with served(current().settings, program=program, QMODAL_WEB_ACCESS_LOG="1") as running:
        secret = {
            "authorization": "Bearer secret",
            "modal-secret": "secret",
            "x-request-id": "id-1",
        }
        running.get("/gated/web/x%0Ay?key=secret", headers=secret)
        running.get("/nowhere/%1B[31m", headers=secret)
        running.stop()
    first, second = log.read_text().splitlines()
    assert '127.0.0.1 "GET /gated/web/x%0Ay HTTP/1.1" 200 ' in first
    assert re.search(r" INFO 127.* \d+ \d\.\d{4}s id-1$", first)
    assert '" 404 ' in second
    assert "secret" not in first + second


def test_the_access_log_is_json_where_the_log_is(gated: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = f"import sys; sys.stderr = open({str(log)!r}, 'w'); {JSON_PROGRAM}"
    with served(current().settings, program=program, QMODAL_WEB_ACCESS_LOG="1") as running:
        running.get('/nowhere/"x"?key=secret', headers={"x-request-id": "id-1"})
        running.stop()
    (line,) = map(json.loads, log.read_text().splitlines())
    assert line.pop("time").endswith("Z")
    assert line.pop("seconds") > 0
    assert line.pop("bytes") > 0
    assert line.pop("message").startswith('127.0.0.1 "GET /nowhere/%22x%22 HTTP/1.1" 404 ')
    assert line == {
        "level": "info",
        "event": "gateway.request",
        "client": "127.0.0.1",
        "method": "GET",
        "path": "/nowhere/%22x%22",
        "http_version": "1.1",
        "status": 404,
        "request_id": "id-1",
    }


def test_a_websocket_that_is_refused_is_no_error_of_the_gateway(gated: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = f"import sys; sys.stderr = open({str(log)!r}, 'w'); {PROGRAM}"
    with served(current().settings, program=program) as running:
        for path in ("/gated/web/refused", "/gated/web/denied", "/nowhere"):
            with pytest.raises(InvalidStatus):
                connect(running.url.replace("http", "ws", 1) + path, proxy=None)
        running.stop()
    assert log.read_text() == ""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("port=70000", "--port"),
        ("host='nowhere.invalid'", "choose another --host"),
        ("trusted_proxies='here'", "--trusted-proxies has 'here'"),
        ("fd=99", "descriptor 99 is no socket"),
    ],
)
def test_a_gateway_that_cannot_start_says_what_to_do(gated: Any, given: str, said: str) -> None:
    settings = current().settings
    code = f"from qmodal.services.gateway.service import serve; serve({given})"
    run = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, **settings.to_environ(), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2, run.stderr
    assert run.stderr.startswith("qmodal web: ")
    assert said in run.stderr
