"""Requests whose container, client or gateway goes away."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from qmodal.client.client import current
from qmodal.exception import FunctionTimeoutError, RemoteError
from qmodal.store.web.inboxes import Inboxes
from tests.support.waiting import wait_until
from tests.support.web.requests import Gateway, Sent, fetch, gateway, in_loop


async def began(folder: Path, pattern: str = "began-*") -> int:
    """The pid of the container that has begun; waits without keeping the loop."""

    def found() -> list[Path]:
        return list(folder.glob(pattern))

    files = await asyncio.to_thread(wait_until, found, what=pattern)
    return int(files[0].name.partition("-")[2])


def test_a_request_that_may_have_run_is_not_run_again(user: Any, tmp_path: Path) -> None:
    answer = fetch(user.dies, "POST", f"/?folder={tmp_path}")
    assert (answer.status, len(list(tmp_path.iterdir()))) == (502, 1)
    assert "may have run" in answer.text


def test_a_request_that_changes_nothing_is_run_again(user: Any, tmp_path: Path) -> None:
    answer = fetch(user.dies_once, url=f"/?folder={tmp_path}")
    assert (answer.text, len(list(tmp_path.iterdir()))) == ('"survived"', 2)


def test_a_response_that_was_under_way_begins_anew_in_another_container(
    user: Any, tmp_path: Path
) -> None:
    async def killed(gateway: Gateway) -> list[str]:
        sent = await gateway.send(user.one_at_a_time, url=f"/events?folder={tmp_path}")
        assert (await sent.take("start"))[0] == 200
        assert await sent.take("body") == b"data: 0\n\n"
        os.kill(await began(tmp_path), signal.SIGKILL)
        assert (await sent.take("start"))[0] == 200
        for number in range(3):
            assert await sent.take("body") == f"data: {number}\n\n".encode()
            (tmp_path / f"next-{number}").touch()
        assert await sent.rest() == b""
        return sent.stream.attempts

    first, second = in_loop(killed)
    assert first.split()[0] != second.split()[0]


def test_a_time_limit_ends_a_request(user: Any) -> None:
    with pytest.raises(FunctionTimeoutError):
        fetch(user.late, url="/?seconds=30")
    assert fetch(user.late, url="/?seconds=0").text == '"late"'


@pytest.mark.parametrize(("name", "path"), [("in_thread", "/"), ("one_at_a_time", "/in-thread")])
def test_a_cancelled_request_that_runs_on_in_a_thread_is_let_go_of(
    user: Any, tmp_path: Path, name: str, path: str
) -> None:
    function, other = getattr(user, name), tmp_path / "other"
    other.mkdir()
    (other / "go").touch()

    async def leave(gateway: Gateway) -> None:
        sent = await gateway.send(function, url=f"{path}?folder={tmp_path}")
        pid = await began(tmp_path)
        await sent.leave()
        with pytest.raises(RemoteError, match="cancelled"):
            await sent.outcome
        again = await gateway.fetch(function, url=f"{path}?folder={other}")
        assert again.text == f'"{pid}"'
        (tmp_path / "go").touch()

    in_loop(leave)


def test_a_request_that_may_have_run_is_not_run_again_after_a_stop(user: Any) -> None:
    async def stopped(gateway: Gateway) -> None:
        sent = await gateway.send(user.bare, "POST", "/leaves", has_more=True)
        stream = await sent.opened()
        await asyncio.to_thread(stop_container, stream.attempts[0].split()[0])
        answer = await sent.answer()
        assert (answer.status, len(stream.attempts)) == (502, 1)

    in_loop(stopped)


def test_requests_of_a_gateway_that_is_gone_are_given_up(user: Any, tmp_path: Path) -> None:
    async def vanish() -> None:
        async with gateway() as made:
            sent: Sent = await made.send(user.site, url=f"/waits?folder={tmp_path}")
            await began(tmp_path)
            made.inbox._renewed = 0.0
            for task in made.inbox._tasks:
                task.cancel()
            await made.client.aio(Inboxes(made.client.keys).remove(made.inbox.name))
            with pytest.raises(RemoteError, match="cancelled"):
                await sent.outcome

    asyncio.run(vanish())
    assert (tmp_path / "cancelled").exists()


def test_a_container_that_is_stopped_says_so_to_its_clients(user: Any, tmp_path: Path) -> None:
    async def stopped(gateway: Gateway) -> None:
        sent = await gateway.websocket(user.one_at_a_time, f"/socket?folder={tmp_path}")
        await sent.take("accept")
        await asyncio.to_thread(stop_container, sent.stream.attempts[0].split()[0])
        assert await sent.take("close") == [1012, ""]
        assert (await sent.outcome).status == 0

    in_loop(stopped)


def stop_container(name: str) -> None:
    """As `qmodal container stop`."""
    client = current()
    client.run(client.fleet.nudge_stopped(name, graceful=False))
