"""ASGI apps in real containers: what they are told, what they send, and how they are streamed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from qmodal.client.client import current
from qmodal.exception import ExecutionError, RemoteError
from tests.support.waiting import wait_until
from tests.support.web.requests import Gateway, fetch, in_loop

MIB = 1024 * 1024


def test_an_app_is_told_what_the_client_has_asked_for(user: Any) -> None:
    answer = fetch(user.site, url="/scope/a%20b/c?q=1&r=%C3%A4", root_path="/web/site")
    assert not answer.is_streamed
    found = json.loads(answer.body)
    assert found["path"] == "/web/site/scope/a b/c"
    assert found["raw"] == "/web/site/scope/a%20b/c"
    assert (found["root_path"], found["query"]) == ("/web/site", {"q": "1", "r": "ä"})
    assert (found["type"], found["method"], found["scheme"]) == ("http", "GET", "http")
    assert (found["client"], found["server"]) == (["192.0.2.7", 4711], ["web.test", 80])
    assert found["url"].endswith("/c?q=1&r=%C3%A4")


def test_requests_see_what_the_lifespan_has_set_and_share_what_is_in_it(user: Any) -> None:
    assert json.loads(fetch(user.site, url="/scope/x").body)["state"] == ["yes", ["up"]]


def test_a_lifespan_that_fails_is_a_failed_start_with_its_error(user: Any) -> None:
    with pytest.raises(ExecutionError, match="LookupError: no model is there"):
        fetch(user.broken)


def test_an_app_lives_within_the_hooks_of_its_class(user: Any, tmp_path: Path) -> None:
    async def ask(gateway: Gateway) -> str:
        stages = user.Stages(folder=str(tmp_path))
        answer = await gateway.fetch(stages.stages)
        assert json.loads(answer.body) == ["enter", "factory", "startup"]
        assert (await gateway.fetch(stages.site, url="/nowhere")).status == 404
        answered: str = json.loads((await gateway.fetch(stages.container)).body)
        return answered

    container, client = in_loop(ask), current()
    client.run(client.fleet.nudge_stopped(container, graceful=True))
    noted = tmp_path / "stages"
    wait_until(lambda: "exit" in noted.read_text(), what="the container ends")
    assert noted.read_text().split() == ["enter", "factory", "startup", "shutdown", "exit"]


def test_redirects_and_files_are_passed_on(user: Any, tmp_path: Path) -> None:
    answer = fetch(user.site, url="/redirect")
    assert (answer.status, answer.header("location")) == (307, "/scope/there")
    content = os.urandom(3 * MIB)
    (tmp_path / "large.bin").write_bytes(content)
    answer = fetch(user.site, url=f"/file?path={tmp_path}/large.bin")
    assert answer.is_streamed
    assert answer.body == content
    assert answer.header("content-length") == str(len(content))
    assert "its%20name.bin" in answer.header("content-disposition")
    part = fetch(user.site, url=f"/file?path={tmp_path}/large.bin", headers={"range": "bytes=5-9"})
    assert (part.status, part.body) == (206, content[5:10])


def test_the_response_to_head_has_no_body(user: Any, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    answer = fetch(user.bare, "HEAD", "/word")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("name", ["site", "one_at_a_time"])
def test_events_arrive_one_by_one(user: Any, tmp_path: Path, name: str) -> None:
    async def read(gateway: Gateway) -> list[bytes]:
        sent = await gateway.send(getattr(user, name), url=f"/events?folder={tmp_path}")
        status, _ = await sent.take("start")
        assert status == 200
        found = []
        for number in range(3):
            found.append(await sent.take("body"))
            (tmp_path / f"next-{number}").touch()
        await sent.take("end")
        assert (await sent.outcome).status == 0
        return found

    assert in_loop(read) == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]


@pytest.mark.parametrize("size", [0, 1, 200_000, 300_000, 20 * MIB])
def test_a_response_of_any_size_arrives(user: Any, size: int) -> None:
    answer = fetch(user.site, url=f"/large?size={size}")
    assert len(answer.body) == size
    assert answer.is_streamed == (size > 256 * 1024)


def test_a_large_body_is_streamed_into_the_app(user: Any) -> None:
    parts = [os.urandom(64 * 1024) for _ in range(320)]
    answer = in_loop(lambda gateway: gateway.upload(user.site, parts, url="/size"))
    assert json.loads(answer.body) == {"size": 20 * MIB, "parts": 320}


@pytest.mark.parametrize("name", ["site", "one_at_a_time"])
def test_bodies_are_streamed_both_ways(user: Any, name: str) -> None:
    parts = [os.urandom(100_000) for _ in range(50)]

    async def echoed(gateway: Gateway) -> bytes:
        sent = await gateway.send(
            getattr(user, name), "POST", "/echo", body=b"first", has_more=True
        )
        await sent.take("start")
        found: bytes = await sent.take("body")
        for part in parts:
            await sent.stream.send("body", part)
            taken = b""
            while len(taken) < len(part):
                taken += await sent.take("body")
            found += taken
        sent.stream.send_now("end")
        await sent.take("end")
        return found

    assert in_loop(echoed) == b"first" + b"".join(parts)


def test_the_response_does_not_wait_for_background_tasks(user: Any, tmp_path: Path) -> None:
    async def ask(gateway: Gateway) -> None:
        sent = await gateway.send(user.site, url=f"/background?folder={tmp_path}")
        await sent.take("start")
        assert await sent.take("body") == b'"at once"'
        await sent.take("end")
        assert not sent.outcome.done()
        (tmp_path / "go").touch()
        assert (await sent.outcome).status == 0

    in_loop(ask)
    assert (tmp_path / "done").exists()


def test_an_app_that_fails_after_its_error_page_is_answered_with_that_page(user: Any) -> None:
    answer = fetch(user.site, url="/fails")
    assert (answer.status, answer.text) == (500, "Internal Server Error")
    wait_until(
        lambda: any("ValueError: on purpose" in str(each) for each in user.site.logs.tail(200)),
        what="the traceback is logged",
    )


def test_an_app_that_fails_in_the_middle_fails_the_input(user: Any) -> None:
    async def ask(gateway: Gateway) -> None:
        sent = await gateway.send(user.site, url="/fails-late")
        await sent.take("start")
        assert await sent.take("body") == b"first"
        with pytest.raises(ValueError, match="on purpose"):
            await sent.outcome

    in_loop(ask)


@pytest.mark.parametrize(
    ("path", "kind", "text"),
    [
        ("/nothing", ExecutionError, "no response"),
        ("/half", ExecutionError, "no whole response"),
        ("/exits", RuntimeError, "SystemExit"),
    ],
)
def test_an_app_without_a_response_fails_the_input(
    user: Any, path: str, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        fetch(user.bare, url=path)
    assert fetch(user.bare, url="/word").text == "word"


def test_an_app_may_know_no_lifespan(user: Any) -> None:
    answer = fetch(user.bare, url="/word")
    assert (answer.text, answer.header("x-a")) == ("word", "1")


def test_requests_run_side_by_side(user: Any, tmp_path: Path) -> None:
    async def many(gateway: Gateway) -> None:
        waiting = [
            await gateway.send(user.site, url=f"/events?folder={tmp_path}") for _ in range(10)
        ]
        for sent in waiting:
            await sent.take("start")
            await sent.take("body")
        assert (await gateway.fetch(user.site, url="/large?size=3")).body == bytes(3)
        for number in range(3):
            (tmp_path / f"next-{number}").touch()
        for sent in waiting:
            await sent.rest()

    in_loop(many)


def test_a_client_that_leaves_ends_its_app(user: Any, tmp_path: Path) -> None:
    async def leave(gateway: Gateway) -> None:
        sent = await gateway.send(user.site, url=f"/waits?folder={tmp_path}")
        wait_until(lambda: list(tmp_path.glob("began-*")), what="it waits")
        await sent.leave()
        with pytest.raises(RemoteError, match="cancelled"):
            await sent.outcome

    in_loop(leave)
    wait_until((tmp_path / "cancelled").exists, what="the app is cancelled")


def test_a_client_that_leaves_ends_a_stream_that_it_took_no_more_of(
    user: Any, tmp_path: Path
) -> None:
    async def leave(gateway: Gateway) -> None:
        sent = await gateway.send(user.site, url=f"/endless?folder={tmp_path}")
        await sent.take("start")
        for _ in range(20):
            await sent.take("body")
        await sent.leave()

    in_loop(leave)
    wait_until((tmp_path / "ended").exists, what="the generator is closed")


def test_an_app_hears_that_its_client_has_left(user: Any) -> None:
    async def leave(gateway: Gateway) -> None:
        sent = await gateway.send(user.bare, "POST", "/leaves", has_more=True)
        stream = await sent.opened()
        stream.send_now("gone")
        with pytest.raises(RemoteError, match="cancelled"):
            await sent.outcome

    in_loop(leave)
