"""Clients that leave, at each point of a request: its input ends, and nothing of it is left."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from qmodal.client.client import current
from tests.support.waiting import wait_until
from tests.support.web.outages import calls, standing_still
from tests.support.web.raw import head
from tests.support.web.served import PROGRAM, SECONDS, Served, served

STALE = "from qmodal.services.gateway.routing import router; router.HIT_SECONDS = router.STALE_SECONDS = 0; "


@pytest.fixture(autouse=True)
def nothing_left(gated: Any) -> Iterator[None]:
    """Each call is forgotten, however its client has left."""
    before = calls()
    yield
    wait_until(lambda: not calls() - before, what="all calls are forgotten", seconds=SECONDS)


def waits(folder: Path, function: str = "web") -> bytes:
    """A request that waits for a file."""
    return head(f"GET /gated/{function}/waits?folder={folder} HTTP/1.1")


def seen(folder: Path, name: str) -> None:
    """Return once the function has made the file."""
    wait_until((folder / name).exists, what=f"{name} is there", seconds=SECONDS)


@pytest.mark.parametrize("is_known", [True, False])
def test_a_client_that_leaves_before_the_server_has_the_call(
    gated: Any, gateway: Served, tmp_path: Path, is_known: bool
) -> None:
    """While its address is looked up, or while the call is on its way: it ends once it is there."""
    with served(current().settings, program=PROGRAM if is_known else STALE + PROGRAM) as running:
        assert running.get("/gated/web/x").status_code == 200
        with standing_still(), running.connection() as made:
            made.sendall(waits(tmp_path))
            assert running.get("/healthz").status_code == 200  # it has been read by then
        assert running.get("/gated/web/x").status_code == 200
        if (tmp_path / "began").exists():
            seen(tmp_path, "cancelled")
        assert running.stop() == 0


def test_a_client_that_leaves_while_it_waits_for_a_container(
    gateway: Served, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(gateway.get, "/gated/slow/waits", params={"folder": str(first)})
        seen(first, "began")
        with gateway.connection() as made:
            made.sendall(waits(second, "slow"))
            wait_until(lambda: len(calls()) >= 2, what="it is queued", seconds=SECONDS)
        wait_until(lambda: len(calls()) == 1, what="it is taken back", seconds=SECONDS)
        (first / "go").touch()
        assert answer.result().text == "xxxx"
    assert gateway.get("/gated/slow/x").status_code == 200
    assert not (second / "began").exists()


def test_a_client_that_leaves_with_another_request_behind_it(
    gateway: Served, tmp_path: Path
) -> None:
    """Nothing more is read of its connection then, and so not that it has left."""
    with gateway.connection() as made:
        made.sendall(waits(tmp_path) + head("GET /healthz HTTP/1.1"))
        seen(tmp_path, "began")
    seen(tmp_path, "cancelled")


def test_a_client_that_leaves_with_a_body_that_nobody_takes(
    gateway: Served, tmp_path: Path
) -> None:
    with gateway.connection() as made:
        # More than this would not leave the client, nor would the news that it has left.
        target = f"POST /gated/web/waits?folder={tmp_path} HTTP/1.1"
        made.sendall(head(target, "content-length: 100000000") + bytes(130_000))
        seen(tmp_path, "began")
    seen(tmp_path, "cancelled")


def test_a_client_that_leaves_at_the_very_end(gateway: Served, tmp_path: Path) -> None:
    process = psutil.Process(gateway.process.pid)
    assert gateway.get("/gated/web/x").status_code == 200
    descriptors, chance = process.num_fds(), random.Random(7)

    def leave(_: int) -> None:
        with gateway.connection() as made:
            made.sendall(head("GET /gated/web/x HTTP/1.1"))
            made.settimeout(chance.uniform(0.0005, 0.01))
            with suppress(TimeoutError):
                made.recv(1)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(leave, range(400)))
    wait_until(lambda: process.num_fds() <= descriptors, what="connections are closed")
    assert gateway.get("/gated/web/x").status_code == 200


def test_two_requests_of_one_id_are_two(gateway: Served) -> None:
    with ThreadPoolExecutor(2) as threads:

        def ask(number: int) -> Any:
            headers = {"x-request-id": "the-same"}
            return gateway.get(f"/gated/web/x?n={number}", headers=headers).json()["query"]

        assert list(threads.map(ask, range(20))) == [f"n={number}" for number in range(20)]
