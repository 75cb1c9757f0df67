"""What a glance at a Unix socket says of the server behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from qmodal.embedded.ping import ping
from tests.support.servers import TestServer, restarted_server, run_server, server_binary

QUICK = 0.05  # seconds


def path_of(url: str) -> str:
    return url.removeprefix("unix://")


def test_a_server_that_stands_still_is_there_all_the_same(server: TestServer) -> None:
    assert ping(path_of(server.url)) == "ready"
    with server.frozen():
        assert ping(path_of(server.url), timeout=QUICK) == "busy"


@pytest.mark.parametrize("password", ["", "secret"])
def test_a_server_without_a_place_for_us_is_there_all_the_same(password: str) -> None:
    with run_server(server_binary(), "--maxclients", "1") as own, own.plain() as plain:
        plain.ping()
        assert ping(path_of(own.url), password) == "busy"


def test_a_server_that_loads_says_so_and_one_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert ping(str(tmp_path / "none")) == "silent"
    with restarted_server(server_binary()) as own:
        own.restart()
        assert ping(path_of(own.url)) == "loading"
    assert ping(path_of(own.url)) == "silent"
