"""Requests that another reader could take for something else: answered as one thing only, or refused and closed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.web.raw import head, status_of, until
from tests.support.web.served import Served

GET, POST, CLOSE = "GET /gated/web/x HTTP/1.1", "POST /gated/web/size HTTP/1.1", "connection: close"
CHUNKED = "transfer-encoding: chunked"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"
FOLLOWER = head("GET /gated/web/follower HTTP/1.1", CLOSE)
UPGRADE = ("connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABk")


@pytest.mark.parametrize(
    "sent",
    [
        head(POST, "transfer-encoding: gzip, chunked") + HELLO,
        head(POST, CHUNKED, CHUNKED) + HELLO,
        head(POST, CHUNKED, "transfer-encoding: identity") + HELLO,
        head(POST, "transfer-encoding: identity") + b"hello",
        head(POST, "transfer-encoding:", " chunked") + HELLO,
        head(POST, "content-length: 5", "content-length: 5") + b"hello",
        head(POST, "content-length: 5, 5") + b"hello",
        head("POST /gated/web/size HTTP/1.0", CHUNKED) + HELLO,
        head(POST, CHUNKED) + b"5\nhello\n0\n\n",
        head(POST, CHUNKED) + b"0x5\r\nhello\r\n0\r\n\r\n",
        head(POST, CHUNKED) + b"5 \r\nhello\r\n0\r\n\r\n",
        head(POST, CHUNKED) + b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        head(POST, CHUNKED) + b"5\r\nhelloXX\r\n0\r\n\r\n",
        head(GET, "a: b", "  folded: 1"),
        head(GET, "a: \x01"),
        head(GET, "", host="")[:-2],
        head(GET, "host: x", host=""),
        head(GET, host="[::1"),
        head(GET, host="a@b"),
        head("GET /gated/web/x HTTP/2.0"),
        head("GET /gated/web/x HTTP/1.2"),
        b"GET /gated/web/x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /gated/web/x HTTP/1.1\rhost: x\r\n\r\n",
        b"GET /gated/web/x HTTP/1.1\nhost: x\n\n",
        head("GET /gated/web/\xff HTTP/1.1"),
        head("GET /gated/web/x?\xff HTTP/1.1"),
        head("GET /gated/web/x y HTTP/1.1"),
        head("OPTIONS * HTTP/1.1"),
        head("OPTIONS * HTTP/1.1", host="a-shop.example.com"),
        head("CONNECT x:80 HTTP/1.1"),
        head("CONNECT /gated/web/x HTTP/1.1"),
        head("GET x/gated/web/x HTTP/1.1"),
        head("GET ftp://x/gated/web/x HTTP/1.1"),
        head("GET http://a@x/gated/web/x HTTP/1.1"),
    ],
)
def test_what_could_be_taken_for_something_else_is_refused_and_closes(
    gateway: Served, sent: bytes
) -> None:
    answer = gateway.raw(sent + FOLLOWER)
    assert status_of(answer) in (400, 501), answer
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    assert b"follower" not in answer


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(("framing", "body"), [("content-length: 5", b"hello"), (CHUNKED, HELLO)])
def test_a_request_that_asks_for_another_protocol_keeps_its_body(
    gateway: Served, framing: str, body: bytes, is_late: bool
) -> None:
    """As HTTP clients of Java do; a body that was taken for requests would be of an attacker's choice."""
    with gateway.connection() as made:
        made.sendall(head(POST, *UPGRADE, framing) + (b"" if is_late else body))
        if is_late:
            made.sendall(body)
        assert until(made, b"\r\n\r\n5 1").count(b"HTTP/1.1 200 ") == 1
        made.sendall(head("GET /healthz HTTP/1.1"))
        assert status_of(until(made, b"ok\n")) == 200


def test_requests_that_ask_for_another_protocol_are_answered_in_order(gateway: Served) -> None:
    ask = head(POST, *UPGRADE, "content-length: 5") + b"hello"
    found = gateway.raw(ask * 20 + head("GET /healthz HTTP/1.1", *UPGRADE) + FOLLOWER)
    assert found.count(b"\r\n\r\n5 1HTTP/1.1 200") == 20
    assert found.count(b"HTTP/1.1 ") == 22
    assert b"follower" in found


def test_the_host_of_an_absolute_target_counts(gateway: Served) -> None:
    for target, host in (
        ("http://a-shop.example.com/some/path?a=1", "x"),
        ("HTTPS://a-shop.example.com:8000", "another.example.com"),
        ("http://a-shop.example.com?a=1", "x"),
    ):
        answer = gateway.raw(head(f"GET {target} HTTP/1.1", CLOSE, host=host))
        assert status_of(answer) == 200, target
        assert b'["host", "a-shop.example.com' in answer
        assert b'"root_path": ""' in answer
    assert status_of(gateway.raw(head("GET http://x HTTP/1.1", CLOSE))) == 404
    absolute = "GET http://a-shop.example.com/ HTTP/1.1"
    assert status_of(gateway.raw(head(absolute, CLOSE, "host: y"))) == 400
    assert status_of(gateway.raw(head(absolute, CLOSE, host=None))) == 400


def test_a_client_of_http_1_0_gets_a_response_without_chunks(
    gateway: Served, tmp_path: Path
) -> None:
    path = f"/gated/web/stream?folder={tmp_path}&part=x&times=100000&count=10"
    answer = gateway.raw(head(f"GET {path} HTTP/1.0", "connection: keep-alive"))
    start, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in start
    assert body == b"x" * 1_000_000
    answer = gateway.raw(head(f"HEAD {path} HTTP/1.0", host=None))
    assert answer.endswith(b"\r\n\r\n")
    answer = gateway.raw(head("GET /gated/web/x HTTP/1.0", host=None))
    assert status_of(answer) == 200


def test_what_follows_an_answer_that_came_before_the_body_is_not_taken_for_it(
    gateway: Served,
) -> None:
    """A client that waits for 100 and gets 404 may send the body, or its next request."""
    with gateway.connection() as made:
        ask = head("POST /nowhere HTTP/1.1", "expect: 100-continue", "content-length: 40")
        made.sendall(ask)
        found = b""
        while part := made.recv(65536):
            found += part
    assert status_of(found) == 404
    assert b"connection: close" in found


def test_a_client_that_expects_it_is_told_to_go_on(gateway: Served) -> None:
    with gateway.connection() as made:
        made.sendall(head(POST, "expect: 100-continue", "content-length: 5"))
        assert until(made, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        made.sendall(b"hello")
        assert status_of(until(made, b"5 1")) == 200


def test_a_request_is_answered_although_garbage_follows_it(gateway: Served) -> None:
    answer = gateway.raw(head(GET) + b"\0garbage\r\n\r\n")
    assert status_of(answer) == 200
    assert answer.count(b"HTTP/1.1 ") == 1
