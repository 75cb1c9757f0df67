"""`qmodal app logs`: lines by call, input, function, container, stream, text and time; and as they come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import qmodal
from tests.acceptance.finding.commands import Commands
from tests.support.commands import started
from tests.support.waiting import wait_until


def lines(shop: Commands, *options: str) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for line in shop.say("app", "logs", "shop", "--json", *options).splitlines()
    ]


def texts(shop: Commands, *options: str) -> list[str]:
    return [each["text"] for each in lines(shop, *options)]


def test_lines_are_found_by_what_has_printed_them(shop: Commands) -> None:
    tell: Any = qmodal.Function.from_name("shop", "tell")
    calls = [tell.spawn(f"word{number}") for number in range(3)]
    for call in calls:
        call.get()
    list(tell.map([f"mapped{number}" for number in range(3)]))
    wait_until(lambda: len(texts(shop)) >= 12, what="all that was printed")

    own = lines(shop, "--call", calls[1].object_id)
    assert sorted(each["text"] for each in own) == ["word1 began", "word1 warns"]
    assert {each["input"] for each in own} == {f"in-{calls[1].object_id[3:]}-0"}
    assert {(each["function"], each["call"]) for each in own} == {("tell", calls[1].object_id)}
    assert {each["source"] for each in own} == {"stdout", "stderr"}

    (mapped,) = lines(shop, "--search", "mapped2 began", "--since", "10m")
    assert mapped["input"].endswith("-2")
    options = ("--call", mapped["input"], "-s", "stdout", "--container", mapped["container"])
    assert texts(shop, *options, "--function", "tell") == ["mapped2 began"]
    assert len(texts(shop, "--tail", "5")) == 5
    plain = shop.say("app", "logs", "shop", "--search", "word0 began", "--timestamps", "--labels")
    assert plain.rstrip().endswith(" tell-1 | word0 began")


def test_what_a_running_input_has_printed_is_shown_and_followed(
    shop: Commands, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    tell: Any = qmodal.Function.from_name("shop", "tell")
    call = tell.spawn("running", str(go))
    wait_until(lambda: "running began" in texts(shop), what="its first line")
    shown = shop.say("call", "show", call.object_id)
    assert "  printed:\n" in shown
    assert "    running began\n" in shown

    options = ("app", "logs", "shop", "-f", "-s", "stdout", "--call", call.object_id)
    with started(*options, settings=shop.settings, cwd=shop.folder) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "running began\n"
        tell.remote("another")
        go.touch()
        call.get()
        wait_until(lambda: "running ended" in texts(shop), what="its last line")
        shop.say("app", "stop", "-y", "shop")
        out, _ = follower.communicate(timeout=30)
    assert out == "running ended\n"
