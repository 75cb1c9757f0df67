"""Streams through a gateway: responses in parts, bodies in both directions, websockets, and ends in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.waiting import wait_until
from tests.support.web.served import SECONDS, Served, read_all

T = TypeVar("T")
MIB = 1024 * 1024


def test_parts_of_a_response_come_as_the_function_sends_them(
    gateway: Served, tmp_path: Path
) -> None:
    params = {"folder": str(tmp_path), "count": "3"}
    with (
        gateway.client() as client,
        client.stream("GET", "/gated/web/stream", params=params) as got,
    ):
        assert got.headers["transfer-encoding"] == "chunked"
        lines = got.iter_lines()
        for number in range(3):
            assert next(lines) == str(number)
            (tmp_path / f"next-{number}").touch()
        assert list(lines) == []


def test_a_large_response_is_whole(gateway: Served, tmp_path: Path) -> None:
    params = {"folder": str(tmp_path), "count": "100", "part": "0123456789abcdef", "times": "65536"}
    response = gateway.get("/gated/web/stream", params=params)
    assert len(response.content) == 100 * MIB
    assert response.content[-16:] == b"0123456789abcdef"


def test_a_body_comes_back_while_it_is_sent(gateway: Served) -> None:
    with gateway.connection() as made:
        made.sendall(
            b"POST /gated/web/echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        found = b""
        for part in (b"first", b"second"):
            made.sendall(b"%x\r\n%s\r\n" % (len(part), part))
            while part not in found:
                found += made.recv(65536)
        made.sendall(b"0\r\n\r\n")
        while not found.endswith(b"0\r\n\r\n"):
            found += made.recv(65536)
    body = bytes(range(256)) * 20_000
    assert gateway.request("POST", "/gated/web/echo", content=body).content == body


def test_a_client_that_leaves_ends_the_function(gateway: Served, tmp_path: Path) -> None:
    """Whether the function waits, has begun to answer, or sends more than anybody reads."""
    quiet, busy, waiting = (tmp_path / name for name in ("quiet", "busy", "waiting"))
    for folder in (quiet, busy, waiting):
        folder.mkdir()
    with gateway.client() as client:
        params = {"folder": str(quiet)}
        with client.stream("GET", "/gated/web/stream", params=params) as got:
            assert next(got.iter_lines()) == "0"
        params = {"folder": str(busy), "part": "x", "times": "65536"}
        with client.stream("GET", "/gated/web/stream", params=params) as got:
            assert got.status_code == 200
    with gateway.connection() as made:
        made.sendall(b"GET /gated/web/waits?folder=%s HTTP/1.1\r\nhost: x\r\n\r\n" % bytes(waiting))
        wait_until((waiting / "began").exists, what="it runs")
    for mark in (quiet / "ended", busy / "ended", waiting / "cancelled"):
        wait_until(mark.exists, what=f"{mark} is there", seconds=SECONDS)


def test_a_response_that_breaks_off_is_not_taken_for_the_whole(
    gateway: Served, tmp_path: Path
) -> None:
    for how in ("fail", "die"):
        folder = tmp_path / how
        folder.mkdir()
        params = {"folder": str(folder)}
        with (
            gateway.client() as client,
            client.stream("GET", "/gated/slow/stream", params=params) as got,
        ):
            lines = got.iter_lines()
            assert next(lines) == "0"
            (folder / how).touch()
            (folder / "next-0").touch()
            with pytest.raises(httpx.RemoteProtocolError):
                list(lines)


def test_a_safe_request_outlives_its_container_and_another_one_is_502(
    gateway: Served, tmp_path: Path
) -> None:
    params = {"folder": str(tmp_path)}
    assert gateway.get("/gated/slow/dies", params=params).text == "survived"
    (tmp_path / "died").unlink()
    response = gateway.request("POST", "/gated/slow/dies", params=params)
    assert response.status_code == 502
    assert "lost" in response.text


def test_a_slow_client_holds_the_function_back_and_not_the_gateways_memory(
    gateway: Served, tmp_path: Path
) -> None:
    before = _resident(gateway)
    with gateway.connection() as made:
        path = f"/gated/web/stream?folder={tmp_path}&part=0123456789abcdef&times=65536&count=60"
        made.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        made.recv(4096)
        for _ in range(20):  # others are served meanwhile
            assert gateway.get("/gated/web/x").status_code == 200
        assert not (tmp_path / "ended").exists()
        assert _resident(gateway) - before < 16 * MIB
        assert len(read_all(made)) > 60 * MIB - 4096


def _resident(gateway: Served) -> int:
    import psutil

    return int(psutil.Process(gateway.process.pid).memory_info().rss)


def in_websocket(
    gateway: Served, path: str, work: Callable[[ClientConnection], Awaitable[T]], **more: Any
) -> T:
    """What it returns, done with a websocket."""

    async def run() -> T:
        url = gateway.url.replace("http", "ws", 1) + path
        async with asyncio.timeout(SECONDS), connect(url, proxy=None, **more) as made:
            return await work(made)

    return asyncio.run(run())


def test_messages_of_a_websocket_go_both_ways(gateway: Served, tmp_path: Path) -> None:
    async def talk(ws: ClientConnection) -> None:
        assert ws.subprotocol == "chat"
        for sent in ("text", b"bytes", "", "ä" * 1000, bytes(1_500_000)):
            await ws.send(sent)
            assert await ws.recv() == sent
        assert ws.response is not None
        assert ws.response.headers["x-request-id"] == "mine"

    in_websocket(
        gateway,
        f"/gated/web/socket?folder={tmp_path}",
        talk,
        subprotocols=["chat"],
        additional_headers={"x-request-id": "mine"},
        max_size=None,
    )
    wait_until((tmp_path / "left-1000").exists, what="the function hears of the end")


def test_a_function_closes_a_websocket_with_its_own_code(gateway: Served) -> None:
    async def talk(ws: ClientConnection) -> tuple[int, str]:
        await ws.send("close")
        with pytest.raises(ConnectionClosed) as ended:
            await ws.recv()
        assert ended.value.rcvd is not None
        return ended.value.rcvd.code, ended.value.rcvd.reason

    assert in_websocket(gateway, "/gated/web/socket", talk) == (4001, "as you wish")


def test_a_function_that_fails_closes_its_websocket_with_1011(gateway: Served) -> None:
    async def talk(ws: ClientConnection) -> int:
        await ws.send("fail")
        with pytest.raises(ConnectionClosed) as ended:
            await ws.recv()
        assert ended.value.rcvd is not None
        return ended.value.rcvd.code

    assert in_websocket(gateway, "/gated/web/socket", talk) == 1011


def test_a_message_that_is_too_large_closes_the_websocket_with_1009(gateway: Served) -> None:
    async def talk(ws: ClientConnection) -> int:
        with pytest.raises(ConnectionClosed) as ended:
            await ws.send(bytes(2 * MIB + 1))
            await ws.recv()
        assert ended.value.rcvd is not None
        return ended.value.rcvd.code

    assert in_websocket(gateway, "/gated/web/socket", talk) == 1009


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/gated/web/refused", 403),
        ("/gated/web/denied", 418),
        ("/gated/none/x", 404),
        ("/gated/guarded/x", 401),
    ],
)
def test_a_websocket_that_is_refused_is_an_http_response(
    gateway: Served, path: str, status: int
) -> None:
    async def never(ws: ClientConnection) -> None:
        raise AssertionError("it was accepted")

    with pytest.raises(InvalidStatus) as refused:
        in_websocket(gateway, path, never)
    assert refused.value.response.status_code == status
    if status == 418:
        assert refused.value.response.headers["x-why"] == "tea"
        assert refused.value.response.body == b"not today"


def test_a_client_that_vanishes_ends_its_websocket(gateway: Served, tmp_path: Path) -> None:
    async def vanish(ws: ClientConnection) -> None:
        await ws.send("x")
        await ws.recv()
        ws.transport.abort()

    in_websocket(gateway, f"/gated/web/socket?folder={tmp_path}", vanish)
    wait_until(lambda: list(tmp_path.glob("left-*")), what="the function hears of the end")
