"""WSGI apps, and servers that user code starts itself, in real containers."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from qmodal.exception import ExecutionError
from tests.support.web.requests import Gateway, fetch, in_loop


def test_a_wsgi_app_gets_path_query_and_body(user: Any) -> None:
    answer = fetch(user.wsgi, "POST", "/a/b%20c?x=1", body=b"12345", root_path="/web/wsgi")
    assert answer.text == "POST /a/b c x=1 5"
    assert answer.header("x-script") == "/web/wsgi"


def test_a_wsgi_app_reads_a_body_that_is_streamed(user: Any) -> None:
    parts = [os.urandom(100_000) for _ in range(30)]
    answer = in_loop(lambda gateway: gateway.upload(user.wsgi, parts, url="/"))
    assert answer.text == "POST /  3000000"


def test_a_server_gets_requests_as_the_client_has_sent_them(user: Any) -> None:
    given = {"connection": "x-drop, keep-alive", "x-drop": "1", "te": "trailers", "x-more": "ü"}
    answer = fetch(user.server, url="/headers/a%2Fb?x=%20", headers=given, root_path="/web/server")
    found = json.loads(answer.body)
    assert found["path"] == "/headers/a%2Fb?x=%20"
    assert {name.lower(): value for name, value in found["headers"]} == {
        "host": "web.test",
        "x-more": "ü",
        "x-forwarded-for": "192.0.2.7",
        "x-forwarded-proto": "http",
        "x-forwarded-prefix": "/web/server",
    }
    names = {name.lower() for name, _ in answer.headers}
    assert b"x-kept" in names
    assert names.isdisjoint({b"connection", b"x-hop", b"transfer-encoding", b"keep-alive"})


def test_bodies_are_streamed_to_a_server_and_back(user: Any) -> None:
    parts = [os.urandom(200_000) for _ in range(40)]

    async def echo(gateway: Gateway) -> bytes:
        sent = await gateway.send(
            user.server, "POST", "/echo", has_more=True, headers={"transfer-encoding": "chunked"}
        )
        stream, found = await sent.opened(), b""
        for part in parts:
            await stream.send("body", part)
            if not found:
                await sent.take("start")
                found += await sent.take("body")
        stream.send_now("end")
        return found + await sent.rest()

    assert in_loop(echo) == b"".join(parts)


def test_a_connection_that_the_server_has_closed_is_made_anew(user: Any) -> None:
    async def again(gateway: Gateway) -> None:
        for _ in range(5):
            assert (await gateway.fetch(user.server, url="/closes")).text == "bye"

    in_loop(again)


def test_a_websocket_is_passed_on_to_the_server(user: Any) -> None:
    async def talk(gateway: Gateway) -> None:
        offered = {"sec-websocket-protocol": "chat", "origin": "http://web.test"}
        sent = await gateway.websocket(user.server, "/socket", headers=offered)
        protocol, _ = await sent.take("accept")
        assert protocol == "chat"
        await sent.stream.send("text", "hello")
        assert await sent.take("text") == "HELLO"
        await sent.stream.send("bytes", b"x" * 1_000_000)
        assert await sent.take("bytes") == b"x" * 1_000_000
        await sent.stream.send("text", "close")
        assert await sent.take("close") == [4002, "bye"]
        assert (await sent.outcome).status == 0
        sent = await gateway.websocket(user.server, "/socket?refuse=1")
        status, headers = await sent.take("start")
        assert (status, dict(map(tuple, headers))[b"x-why"]) == (403, b"closed")
        await sent.rest()

    in_loop(talk)


def test_a_server_that_does_not_come_up_in_time_is_a_failed_start(user: Any) -> None:
    with pytest.raises(ExecutionError, match=r"TimeoutError: .* no connection within 0\.3 s"):
        fetch(user.absent)


def test_a_port_that_somebody_has_is_a_failed_start(user: Any) -> None:
    fetch(user.server, url="/headers")
    other = user.server.with_options(memory=64)
    with pytest.raises(ExecutionError, match=r"port \d+ of this machine is taken"):
        fetch(other, url="/headers")
