"""Result pages whose clients leave, or are several."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from qmodal.client.client import current
from tests.support.web.raw import head, until
from tests.support.web.served import served


def test_a_client_that_leaves_a_result_page_may_come_back(gated: Any, tmp_path: Path) -> None:
    with served(current().settings, QMODAL_WEB_REDIRECT_SECONDS="2") as running:
        found = running.get("/gated/web/waits", params={"folder": str(tmp_path)})
        page = found.headers["location"]
        for _ in range(2):
            with running.connection() as made:
                made.sendall(head(f"GET {page} HTTP/1.1"))
                assert running.get("/healthz").status_code == 200
        (tmp_path / "go").touch()
        assert running.get(page, follow_redirects=True).text == "xxxx"
        assert not (tmp_path / "cancelled").exists()
        assert running.stop() == 0


def test_one_result_page_for_two_clients(gated: Any, tmp_path: Path) -> None:
    """At once only one of them gets it, and later nobody whom it does not belong to."""
    with served(current().settings, QMODAL_WEB_REDIRECT_SECONDS="2") as running:
        found = running.get("/gated/web/waits", params={"folder": str(tmp_path)})
        page = found.headers["location"]
        with ThreadPoolExecutor(1) as thread, running.connection() as made:
            made.sendall(head(f"GET {page} HTTP/1.1", "connection: close"))
            assert running.get("/healthz").status_code == 200
            answer = thread.submit(running.get, page)
            assert answer.result().status_code == 409
            (tmp_path / "go").touch()
            assert until(made, b"xxxx").startswith(b"HTTP/1.1 200 ")
        assert running.get(page).status_code == 404
        assert running.stop() == 0
