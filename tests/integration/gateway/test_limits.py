"""What a gateway refuses: requests that are too large, too slow, too many, or meant to be read in two ways."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from qmodal.client.client import current
from tests.support.waiting import wait_until
from tests.support.web.served import PROGRAM, Served, served

MIB = 1024 * 1024
QUICK = (
    "from qmodal.services.gateway.protocol import http as limits; "
    f"limits.HEAD_SECONDS, limits.DRAIN_SECONDS = 1.0, 1.0; {PROGRAM}"
)


@pytest.fixture(scope="module")
def strict(gated: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway with low limits, which writes an access log and trusts the proxies of this machine."""
    with served(
        current().settings,
        program=QUICK,
        QMODAL_WEB_MAX_BODY=str(2 * MIB),
        QMODAL_WEB_BODY_SECONDS="1",
        QMODAL_WEB_QUEUE="3",
        QMODAL_WEB_TRUSTED_PROXIES="127.0.0.1",
    ) as running:
        yield running


def status_of(answer: bytes) -> int:
    """The status of a raw response."""
    assert answer.startswith(b"HTTP/1.1 "), answer
    return int(answer.split()[1])


def test_a_body_above_the_limit_is_413_before_it_is_read(strict: Served) -> None:
    head = b"POST /gated/web/size HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (2 * MIB + 1)
    assert status_of(strict.raw(head)) == 413
    response = strict.request("POST", "/gated/web/size", content=bytes(2 * MIB))
    assert response.text.split()[0] == str(2 * MIB)


def test_a_body_of_unknown_length_above_the_limit_is_413(strict: Served) -> None:
    body = (bytes(100_000) for _ in range(25))
    assert strict.request("POST", "/gated/web/size", content=body).status_code == 413


@pytest.mark.parametrize(
    "length", ["content-length: 10", "content-length: 1000000", "transfer-encoding: chunked"]
)
def test_a_body_that_does_not_come_is_408(strict: Served, length: str) -> None:
    head = f"POST /gated/web/size HTTP/1.1\r\nhost: x\r\n{length}\r\n\r\n"
    assert status_of(strict.raw(head.encode())) == 408


def test_a_head_that_does_not_come_is_408_and_silence_is_closed(strict: Served) -> None:
    assert status_of(strict.raw(b"GET / HTTP/1.1\r\nhost:")) == 408
    assert strict.raw(b"") == b""


def test_a_head_that_is_too_large_is_431(strict: Served) -> None:
    line = b"GET / HTTP/1.1\r\nhost: x\r\n"
    assert (
        status_of(strict.raw(line + b"a: " + bytes(70_000).replace(b"\0", b"b") + b"\r\n\r\n"))
        == 431
    )
    assert status_of(strict.raw(line + b"a: b\r\n" * 300 + b"\r\n")) == 431
    with strict.connection() as made:  # it need not be complete
        made.sendall(line + b"a: ")
        made.sendall(b"b" * 100_000)
        assert status_of(made.recv(65536)) == 431


@pytest.mark.parametrize(
    "head",
    [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: +1\r\n\r\na",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length : 1\r\n\r\na",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1;\rx\r\na\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\na: b\rc: d\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\n folded: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\na\0b: 1\r\n\r\n",
        "\x16\x03\x01\x02\r\n\r\n",
    ],
)
def test_what_could_be_read_in_two_ways_is_400_and_closes(strict: Served, head: str) -> None:
    follower = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    answer = strict.raw(head.encode("latin-1") + follower)
    assert status_of(answer) == 400
    assert answer.count(b"HTTP/1.1 ") == 1, answer


def test_trailers_are_no_headers(strict: Served) -> None:
    head = b"POST /gated/web/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    answer = strict.raw(head + b"1\r\na\r\n0\r\nx-forwarded-for: 1.2.3.4\r\nx-late: 1\r\n\r\n")
    assert status_of(answer) == 200
    assert b"x-late" not in answer
    assert b"1.2.3.4" not in answer


def test_requests_on_one_connection_are_answered_in_order(strict: Served) -> None:
    requests = b"".join(
        b"GET /gated/web/x?n=%d HTTP/1.1\r\nhost: x\r\n%s\r\n" % (number, last)
        for number, last in ((1, b""), (2, b""), (3, b"connection: close\r\n"))
    )
    answer = strict.raw(requests)
    assert [answer.index(b'"query": "n=%d"' % number) for number in (1, 2, 3)] == sorted(
        answer.index(b'"query": "n=%d"' % number) for number in (1, 2, 3)
    )


def test_an_early_response_to_a_long_body_is_read_by_the_client(strict: Served) -> None:
    with strict.client() as client:
        for _ in range(2):
            response = client.post("/nowhere", content=bytes(MIB))
            assert response.status_code == 404


def test_too_many_waiting_requests_are_429_until_they_wait_no_more(
    strict: Served, tmp_path: Path
) -> None:
    params = {"folder": str(tmp_path)}
    refused = threading.Event()

    def ask(_: int) -> int:
        response = strict.get("/gated/slow/waits", params=params)
        if response.status_code == 429:
            assert response.headers["retry-after"] == "1"
            refused.set()
        return response.status_code

    with ThreadPoolExecutor(12) as threads:
        answers = threads.map(ask, range(12))
        wait_until(refused.is_set, what="one is refused", seconds=30)
        assert strict.get("/gated/web/x").status_code == 200  # that is another pool
        (tmp_path / "go").touch()
        found = list(answers)
    assert set(found) == {200, 429}
    wait_until(lambda: ask(0) == 200, what="there is room again", seconds=30)


def test_a_trusted_proxy_says_who_the_client_is(strict: Served) -> None:
    told = {
        "x-forwarded-for": "6.6.6.6, 203.0.113.9, 127.0.0.1",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "a-shop.example.com",
    }
    found = strict.get("/x", headers=told).json()
    assert found["client"] == ["203.0.113.9", 0]
    assert (found["scheme"], found["root_path"]) == ("https", "")
    assert ["host", "a-shop.example.com"] in found["headers"]


def test_what_anybody_else_says_about_the_client_is_dropped(gateway: Served) -> None:
    told = {"x-forwarded-for": "1.2.3.4", "x-forwarded-proto": "https", "forwarded": "for=1.2.3.4"}
    found = gateway.get("/gated/web/x", headers=told).json()
    assert found["client"][0] == "127.0.0.1"
    assert found["scheme"] == "http"
    assert not [name for name, _ in found["headers"] if "forwarded" in name]
