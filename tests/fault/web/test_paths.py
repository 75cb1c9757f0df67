"""Paths that try to lead elsewhere: to another function, to another server, or out of the root of an app."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from qmodal.client.client import current
from tests.support.stacks import running_program
from tests.support.web.raw import head, status_of
from tests.support.web.served import Served, served

PROGRAM = Path(__file__).parents[2] / "programs" / "web.py"
PATHS = [
    "/../a",
    "/%2e%2e/a",
    "/a/%2E%2e/../b",
    "/a%2fb",
    "/a%252fb%5c",
    "/%ff%00",
    "//a//b/",
    "/.",
]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway that serves web functions of every kind."""
    with running_program(PROGRAM, tmp_path_factory), served(current().settings) as running:
        yield running


def ask(gateway: Served, path: str) -> bytes:
    """The raw response; no client library has changed the path."""
    return gateway.raw(head(f"GET {path} HTTP/1.1", "connection: close"))


@pytest.mark.parametrize("path", PATHS)
def test_an_asgi_app_gets_the_path_as_it_is(gateway: Served, path: str) -> None:
    answer = ask(gateway, f"/gated/web{path}")
    assert status_of(answer) == 200
    found = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert found["root_path"] == "/gated/web"
    assert found["path"] == "/gated/web" + unquote(path)


@pytest.mark.parametrize(
    "path",
    [
        "/gated/../gated/web",
        "/gated/%2e%2e/gated/web",
        "/gated%2fweb/x",
        "/gated/web%2fx",
        "/gated/we%00b",
        "/gated/web%0d%0ax/y",
        "//gated/web/x",
        "/./gated/web",
    ],
)
def test_no_other_spelling_leads_to_a_function(gateway: Served, path: str) -> None:
    assert status_of(ask(gateway, path)) == 404


@pytest.mark.parametrize("path", PATHS)
def test_a_server_gets_the_path_as_it_is(web: Served, path: str) -> None:
    target = f"/headers{path}?a=%2F/../&b=%zz"
    answer = ask(web, f"/web/server{target}")
    assert status_of(answer) == 200, answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["path"] == target


def test_a_path_leads_to_no_other_server(web: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.setblocking(False)
        port = other.getsockname()[1]
        for path in (f"//127.0.0.1:{port}/x", f"/@127.0.0.1:{port}/x", f"/:{port}@127.0.0.1/"):
            assert status_of(ask(web, f"/web/server{path}")) == 404
        with pytest.raises(BlockingIOError):
            other.accept()


@pytest.mark.parametrize("path", PATHS)
def test_a_wsgi_app_gets_the_path_below_its_root(web: Served, path: str) -> None:
    answer = ask(web, f"/web/wsgi{path}")
    assert status_of(answer) == 200
    assert b"x-script: /web/wsgi\r\n" in answer
    assert b"GET /" in answer


def test_values_of_user_code_begin_no_header(gateway: Served, web: Served) -> None:
    for path in ("break", "name", "bad-late"):
        answer = ask(gateway, f"/gated/web/{path}")
        assert status_of(answer) == 502
        assert b"stolen" not in answer
    answer = ask(web, "/web/site/redirect%0d%0aset-cookie:%20stolen=1")
    assert b"\r\nset-cookie" not in answer.lower()
