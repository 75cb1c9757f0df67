"""Websockets of apps in real containers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from qmodal.exception import RemoteError
from tests.support.web.requests import Gateway, in_loop


@pytest.mark.parametrize("name", ["site", "one_at_a_time"])
def test_messages_go_both_ways_until_the_app_closes(user: Any, name: str) -> None:
    async def talk(gateway: Gateway) -> None:
        offered = {"sec-websocket-protocol": "other, chat"}
        sent = await gateway.websocket(getattr(user, name), "/socket", headers=offered)
        assert await sent.take("accept") == ["chat", []]
        await sent.stream.send("text", "hello")
        assert await sent.take("text") == "HELLO"
        for size in (0, 5, 1_000_000, 2 * 1024 * 1024):
            await sent.stream.send("bytes", bytes(size))
            assert await sent.take("bytes") == bytes(size)
        await sent.stream.send("text", "close")
        assert await sent.take("close") == [4001, "as you wish"]
        assert (await sent.outcome).status == 0

    in_loop(talk)


def test_the_app_hears_with_which_code_its_client_closes(user: Any, tmp_path: Path) -> None:
    async def close(gateway: Gateway) -> None:
        sent = await gateway.websocket(user.site, f"/socket?folder={tmp_path}")
        assert await sent.take("accept") == [None, []]
        sent.stream.send_now("close", [4000, "bye"])
        assert (await sent.outcome).status == 0

    in_loop(close)
    assert (tmp_path / "left-4000").exists()


def test_a_client_that_vanishes_is_a_disconnect(user: Any, tmp_path: Path) -> None:
    async def vanish(gateway: Gateway) -> None:
        sent = await gateway.websocket(user.site, f"/socket?folder={tmp_path}")
        await sent.take("accept")
        sent.stream.send_now("gone")
        with pytest.raises(RemoteError, match="cancelled"):
            await sent.outcome

    in_loop(vanish)
    assert (tmp_path / "left-1006").exists()


@pytest.mark.parametrize("name", ["site", "one_at_a_time"])
def test_an_app_may_refuse(user: Any, name: str) -> None:
    async def refused(gateway: Gateway) -> None:
        function = getattr(user, name)
        sent = await gateway.websocket(function, "/refused")
        assert await sent.take("close") == [1000, ""]
        assert (await sent.outcome).status == 0
        sent = await gateway.websocket(function, "/refused?how=response")
        status, headers = await sent.take("start")
        assert (status, dict(map(tuple, headers))[b"x-why"]) == (418, b"tea")
        assert await sent.rest() == b"not today"
        sent = await gateway.websocket(function, "/nowhere")
        assert await sent.take("close")

    in_loop(refused)


def test_an_app_that_fails_closes_with_1011_and_fails_its_input(user: Any) -> None:
    async def fail(gateway: Gateway) -> None:
        sent = await gateway.websocket(user.site, "/socket")
        await sent.take("accept")
        await sent.stream.send("text", "fail")
        assert await sent.take("close") == [1011, ""]
        with pytest.raises(ValueError, match="on purpose"):
            await sent.outcome

    in_loop(fail)


def test_many_messages_keep_their_order(user: Any) -> None:
    async def talk(gateway: Gateway) -> None:
        sent = await gateway.websocket(user.site, "/socket")
        await sent.take("accept")

        async def ask() -> None:
            for number in range(3000):
                await sent.stream.send("text", f"m{number}")

        asking = asyncio.create_task(ask())
        assert [await sent.take("text") for _ in range(3000)] == [f"M{n}" for n in range(3000)]
        await asking

    in_loop(talk)
