"""Gateways whose server is away for a while, or for good."""

from __future__ import annotations

import os
import secrets
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from qmodal.client.client import current
from qmodal.config import Settings
from qmodal.transport.operation import ask_one
from tests.support.servers import run_server, server_binary
from tests.support.web.served import Served, served


def test_requests_wait_for_a_server_that_stands_still(
    gated: Any, gateway: Served, tmp_path: Path
) -> None:
    client = current()
    about = client.run(ask_one(b"INFO", b"server")).decode()
    pid = int(about.partition("process_id:")[2].split()[0])
    params = {"folder": str(tmp_path)}
    with ThreadPoolExecutor(8) as threads:
        running = threads.submit(gateway.get, "/gated/web/waits", params=params)
        os.kill(pid, signal.SIGSTOP)
        try:
            answers = [threads.submit(gateway.get, f"/gated/web/{n}") for n in range(5)]
            assert gateway.get("/healthz").status_code == 200
            assert not any(answer.done() for answer in answers)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert [answer.result().status_code for answer in answers] == [200] * 5
        (tmp_path / "go").touch()
        assert running.result().text == "xxxx"


def test_without_a_server_requests_are_503_and_the_gateway_lives(tmp_path: Path) -> None:
    with run_server(server_binary()) as server:
        settings = Settings(
            redis_url=server.url, signing_key=secrets.token_bytes(32), home=tmp_path
        )
        with served(settings) as running:
            assert running.get("/app/f").status_code == 404
            os.kill(server.pid, signal.SIGKILL)
            with running.client() as client:
                response = client.get("/other/f", timeout=55)
            assert response.status_code == 503
            assert response.headers["retry-after"]
            assert running.get("/healthz").status_code == 200
            assert running.stop() == 0
