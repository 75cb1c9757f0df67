"""Gateways, containers, workers, apps and servers that go away under load: every request has an answer."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from qmodal.cli.commands.app import find
from qmodal.client.client import current
from tests.support.waiting import wait_until
from tests.support.web.raw import CLOSE, TEXT, frame, handshake, until
from tests.support.web.served import SECONDS, Served, read_all
from tests.support.web.site import Site, answers, site

pytestmark = pytest.mark.usefixtures("placed")
PATIENCE = 100.0


@pytest.fixture(scope="module")
def placed() -> Iterator[Site]:
    """A site for all tests of this module."""
    with site() as made:
        yield made


@pytest.fixture(scope="module")
def gateway(placed: Site) -> Served:
    """Its gateway, once all of it is up."""
    made = placed.gateway()
    for path in ("/gated/web/x", "/gated/slow/x"):
        answers(made, path)
    return made


class Load:
    """Requests of some clients, one after another each, until it is told to stop."""

    def __init__(self, gateways: list[Served], clients: int = 6) -> None:
        self.statuses: Counter[int | str] = Counter()
        self._gateways = gateways
        self._is_over = threading.Event()
        self._threads = ThreadPoolExecutor(clients)
        self._running: list[Future[None]] = [
            self._threads.submit(self._ask, number) for number in range(clients)
        ]

    def _ask(self, number: int) -> None:
        gateway = self._gateways[number % len(self._gateways)]
        with httpx.Client(base_url=gateway.url, timeout=PATIENCE, trust_env=False) as client:
            while not self._is_over.is_set():
                try:
                    self.statuses[client.get("/gated/web/x").status_code] += 1
                except httpx.TimeoutException:
                    self.statuses["silence"] += 1
                except httpx.TransportError as error:
                    self.statuses[type(error).__name__] += 1
                    return

    def until_more(self, count: int = 100) -> None:
        """Return once so many more are answered with 200."""
        before = self.statuses[200]
        what = f"{count} more answers, with {self.statuses}"
        wait_until(lambda: self.statuses[200] >= before + count, what=what, seconds=PATIENCE)

    def end(self) -> Counter[int | str]:
        """What they were answered, all of them."""
        self._is_over.set()
        for each in self._running:
            each.result()
        self._threads.shutdown()
        return self.statuses


@contextmanager
def under_load(*gateways: Served) -> Iterator[Load]:
    """Requests during the block."""
    load = Load(list(gateways))
    try:
        load.until_more()
        yield load
    finally:
        load.end()


def test_a_killed_gateway_costs_another_ones_clients_nothing(placed: Site, gateway: Served) -> None:
    other = placed.gateway()
    with under_load(gateway) as load, under_load(other) as lost:
        other.process.send_signal(signal.SIGKILL)
        load.until_more()
    assert set(load.end()) == {200}
    assert set(lost.end()) <= {
        200,
        "ConnectError",
        "ReadError",
        "RemoteProtocolError",
        "WriteError",
    }


def test_a_new_version_under_load_costs_no_request(placed: Site, gateway: Served) -> None:
    with under_load(gateway) as load:
        for _ in range(2):
            placed.program.app.deploy()
            load.until_more(300)
    assert set(load.end()) == {200}


def test_a_restarted_server_under_load_lets_requests_wait_or_be_503(
    placed: Site, gateway: Served
) -> None:
    with under_load(gateway) as load:
        for number in (signal.SIGTERM, signal.SIGKILL):
            placed.server.restart(number)
            load.until_more()
    found = load.end()
    assert set(found) <= {200, 502, 503}, found
    assert found[502] + found[503] < found[200]


def test_a_server_that_stands_still_for_half_a_minute_lets_none_hang(
    placed: Site, gateway: Served
) -> None:
    assert placed.server.process is not None
    with under_load(gateway) as load:
        os.kill(placed.server.process.pid, signal.SIGSTOP)
        try:
            wait_until(lambda: load.statuses[503] >= 6, what="each is told so", seconds=PATIENCE)
        finally:
            os.kill(placed.server.process.pid, signal.SIGCONT)
        load.until_more()
    found = load.end()
    assert set(found) <= {200, 502, 503}, found


def test_the_requests_of_a_stopped_app_are_answered(
    placed: Site, gateway: Served, tmp_path: Path
) -> None:
    folders = [tmp_path / str(number) for number in range(3)]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(3) as threads:
        asked = [
            threads.submit(
                gateway.get, "/gated/slow/waits", params={"folder": str(folder)}, timeout=PATIENCE
            )
            for folder in folders
        ]
        wait_until(
            lambda: any((folder / "began").exists() for folder in folders),
            what="one runs, and others wait",
            seconds=SECONDS,
        )
        try:
            client = current()
            client.run(client.apps.stop(client.run(find(client, "gated", None))))
            found = [each.result() for each in asked]
        finally:
            for folder in folders:
                (folder / "go").touch()
            placed.program.app.deploy()
    assert {response.status_code for response in found} <= {502, 503, 404}
    answers(gateway, "/gated/slow/x")


@pytest.mark.timeout(180)  # after each start that fails, the next one is tried twice as late
def test_a_container_that_cannot_start_is_said_to_every_client(gateway: Served) -> None:
    """Also while no further start is tried."""
    with ThreadPoolExecutor(3) as threads:

        def ask(_: int) -> httpx.Response:
            return gateway.get("/gated/broken/", timeout=PATIENCE)

        found = list(threads.map(ask, range(5)))
    assert {response.status_code for response in found} == {502}
    assert all("No container of the function could be started" in each.text for each in found)


def test_a_websocket_whose_container_is_killed_is_closed(
    placed: Site, gateway: Served, tmp_path: Path
) -> None:
    with gateway.connection() as made:
        made.sendall(handshake("/gated/slow/socket"))
        until(made, b"\r\n\r\n")
        made.sendall(frame(TEXT, b"pid"))
        pid = int(until(made, b".")[2:-1])
        os.kill(pid, signal.SIGKILL)
        found = read_all(made)
    assert found[0] == 0x80 | CLOSE
    assert int.from_bytes(found[2:4], "big") == 1011


def test_a_worker_that_stops_ends_what_is_under_way_and_the_next_one_goes_on(
    placed: Site, gateway: Served, tmp_path: Path
) -> None:
    folder = tmp_path / "stream"
    folder.mkdir()
    with under_load(gateway) as load, gateway.client() as client:
        params = {"folder": str(folder), "count": "2"}
        with client.stream("GET", "/gated/slow/stream", params=params) as got:
            lines = got.iter_lines()
            assert next(lines) == "0"
            old = placed.processes["worker"]
            placed.start("another", "worker")
            old.send_signal(signal.SIGTERM)
            load.until_more(300)
            for number in range(2):
                (folder / f"next-{number}").touch()
            assert list(lines) == ["1"]
        assert old.wait(SECONDS) == 0
        load.until_more()
    assert set(load.end()) == {200}
