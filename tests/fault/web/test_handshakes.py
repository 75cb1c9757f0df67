"""Websockets that begin or go on wrongly: each is answered or closed, and none is waited for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest

from qmodal.client.client import current
from tests.support.waiting import wait_until
from tests.support.web.raw import CLOSE, PING, PONG, TEXT, frame, handshake, head, status_of, until
from tests.support.web.served import PROGRAM, SECONDS, Served, read_all, served

SOCKET = "/gated/web/socket"
MIB = 1024 * 1024


@pytest.mark.parametrize(
    "sent",
    [
        handshake(SOCKET, "content-length: 5") + b"hello",
        handshake(SOCKET, "transfer-encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
        handshake(SOCKET, "host: another"),
        handshake(SOCKET, line="POST {} HTTP/1.1"),
        handshake(SOCKET, line="GET {} HTTP/1.0"),
        handshake(f"{SOCKET}?{'x' * 10_000}"),
        handshake(SOCKET, f"x-long: {'x' * 10_000}"),
        handshake(SOCKET, *["x-many: 1"] * 150),
        handshake(SOCKET, *[f"x-many: {'x' * 1000}"] * 70),
        handshake(f"{SOCKET}/\xff"),
        handshake("*"),
        handshake(SOCKET).replace(b"version: 13", b"version: 12"),
        handshake(SOCKET).replace(b"sec-websocket-key", b"x-key"),
    ],
)
def test_a_handshake_that_is_none_is_refused_and_closed(gateway: Served, sent: bytes) -> None:
    answer = gateway.raw(sent)
    assert 400 <= status_of(answer) < 500, answer
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_handshake_may_be_as_odd_as_http_allows(gateway: Served) -> None:
    for sent in (
        handshake(f"http://x{SOCKET}"),
        handshake(f"{SOCKET}%ff%00"),
        handshake(SOCKET, "x-a: \xff\xc3\t\xa4"),
    ):
        with gateway.connection() as made:
            made.sendall(sent)
            assert status_of(until(made, b"\r\n\r\n")) == 101
            made.sendall(frame(TEXT, b"hi"))
            assert until(made, b"hi") == b"\x81\x02hi"


def test_no_websocket_begins_behind_a_request_that_is_not_answered(
    gateway: Served, tmp_path: Path
) -> None:
    """Its frames would be read as the response to that request, or the other way round."""
    with gateway.connection() as made:
        made.sendall(head(f"GET /gated/web/waits?folder={tmp_path} HTTP/1.1") + handshake(SOCKET))
        wait_until((tmp_path / "began").exists, what="the first one runs", seconds=SECONDS)
        (tmp_path / "go").touch()
        found = read_all(made)
    assert found.endswith(b"xxxx")
    assert found.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b"\xff\xfe"), 1007),
        (frame(TEXT, b"\xc3", is_last=False) + frame(0, b"("), 1007),
        (b"\x81\x02hi", 1002),  # not masked
        (frame(3, b"hi"), 1002),
        (frame(0, b"hi"), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CLOSE, b"\x03\xed"), 1002),
        (frame(CLOSE, b"\x03\xe8\xff"), 1007),
        (b"\x82\xff" + b"\x7f" + b"\xff" * 7 + bytes(4), 1009),
    ],
)
def test_what_is_no_websocket_ends_it_and_the_function_hears_of_it(
    gateway: Served, tmp_path: Path, sent: bytes, code: int
) -> None:
    with gateway.connection() as made:
        made.sendall(handshake(f"{SOCKET}?folder={tmp_path}"))
        until(made, b"\r\n\r\n")
        made.sendall(sent)
        found = read_all(made)
    assert found[:1] == b"\x88"
    assert int.from_bytes(found[2:4], "big") == code
    wait_until(lambda: list(tmp_path.glob("left-*")), what="it hears of the end", seconds=SECONDS)


def test_the_function_chooses_no_headers_by_the_name_of_a_protocol(gateway: Served) -> None:
    answer = gateway.raw(handshake("/gated/web/injects"))
    assert status_of(answer) == 502
    assert b"stolen" not in answer


def test_endless_pings_of_a_client_that_reads_nothing_take_no_memory(gateway: Served) -> None:
    process = psutil.Process(gateway.process.pid)
    with gateway.connection() as made:
        made.sendall(handshake(SOCKET))
        until(made, b"\r\n\r\n")
        before = process.memory_info().rss
        pings = frame(PING, bytes(100)) * 10_000
        for _ in range(64):
            made.sendall(pings)
        assert gateway.get("/healthz").status_code == 200
        assert process.memory_info().rss - before < 16 * MIB
        made.sendall(frame(PING, b"the last one"))
        assert until(made, b"the last one")[-14:-12] == bytes([0x80 | PONG, 12])
        made.sendall(frame(TEXT, b"hi"))
        assert until(made, b"hi").endswith(b"\x81\x02hi")


def test_what_clients_write_is_not_in_the_log(gated: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = f"import sys; sys.stderr = open({str(log)!r}, 'w'); {PROGRAM}"
    with served(current().settings, program=program) as running:
        for sent in (b"\0secret\r\n\r\n", head("GET /secret HTTP/3.0"), handshake("/secret")):
            running.raw(sent)
        running.raw(handshake(f"{SOCKET}?{'secret' * 2000}"))
        with running.connection() as made:
            made.sendall(handshake(SOCKET))
            until(made, b"\r\n\r\n")
            made.sendall(frame(TEXT, b"secret\xff"))
            read_all(made)
        assert running.stop() == 0
    assert log.read_text() == ""
