"""`qmodal why`: the answer for pools, calls and boxes, each brought about by a program that runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qmodal
from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.config import Settings
from tests.acceptance.finding.commands import Commands
from tests.support.commands import qmodal as run, started
from tests.support.waiting import wait_until

LATER = """
@app.function(gpu="H100")
def train() -> None:
    pass

@app.function(max_containers=1)
def one(path: str) -> None:
    wait_for.local(path)

@app.function(retries=qmodal.Retries(max_retries=2, initial_delay=60))
def flaky() -> None:
    raise ValueError("not yet")
"""


@pytest.fixture
def program(program: Path) -> Path:
    program.write_text(program.read_text() + LATER)
    return program


def function(name: str) -> Any:
    return qmodal.Function.from_name("shop", name)


def why(shop: Commands, what: str, is_so: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The answer, once that is so; in text it has 80 columns."""
    found: dict[str, Any] | None = wait_until(
        lambda: said if is_so(said := shop.plain("why", what)) else None,
        what=f"why {what}",
        seconds=40,
        pause=0.2,
    )
    assert found is not None
    assert all(len(line) <= 80 for line in shop.say("why", what).splitlines())
    return found


def of_kind(kind: str) -> Callable[[dict[str, Any]], bool]:
    return lambda said: said["reason"] == kind


def test_each_wait_of_a_busy_shop_is_explained(shop: Commands, tmp_path: Path) -> None:
    """One stack for all, as each takes seconds to start."""
    gate = tmp_path / "gate"
    first, second = (function("one").spawn(str(gate)) for _ in range(2))
    retried, trained = function("flaky").spawn(), function("train").spawn()
    pools_are_explained(shop)
    calls_are_explained(shop, first.object_id, second.object_id, retried.object_id)
    boxes_are_explained(shop)
    limits_are_explained(shop, second.object_id)
    gate.touch()
    assert [call.get(timeout=30) for call in (first, second)] == [None, None]
    idle = why(shop, "shop/one", of_kind("idle"))
    assert idle["answer"] == "one waits for nothing: nothing waits in it"
    for call in (retried, trained):
        call.cancel()
    assert why(shop, trained.object_id, of_kind("idle"))["answer"].endswith("it was cancelled")
    assert "There is no active pool 'nosuch'" in shop.refused("why", "nosuch")


def pools_are_explained(shop: Commands) -> None:
    maximum = why(shop, "shop/one", of_kind("maximum"))
    assert maximum["answer"].startswith("one waits: it may have no more containers")
    assert maximum["facts"]["containers"] == "1 ready"
    impossible = why(shop, "shop/train", of_kind("impossible"))
    assert "it has no GPU H100" in impossible["answer"]
    assert impossible["facts"]["needs"] == "gpu H100"
    rows = {each["function"]: each["reason"] for each in shop.plain("pool", "list")}
    assert (rows["one"], rows["train"]) == ("maximum", "impossible")
    assert "no box can run it" in shop.say("pool", "list")
    assert ", the next one for " in why(shop, "flaky", of_kind("retry"))["answer"]
    shop.say("pool", "pause", "train")
    assert "`qmodal pool resume " in why(shop, "train", of_kind("paused"))["answer"]
    shop.say("pool", "resume", "train")


def calls_are_explained(shop: Commands, running: str, waiting: str, retried: str) -> None:
    waits = why(shop, waiting, of_kind("maximum"))
    assert waits["answer"].startswith(f"{waiting} waits: it may have no more")
    assert waits["facts"]["waiting"][0].startswith("input 0: in line for ")
    assert "held by ta-" in why(shop, running, of_kind("running"))["answer"]
    due = why(shop, retried, of_kind("retry"))
    assert "its retry is due in " in due["answer"]
    assert due["answer"].endswith("attempt 2 of 3")
    calls = {each["call"]: each["reason"] for each in shop.plain("call", "list", "--waiting")}
    assert calls[waiting] == "at max_containers"
    assert "waits     it may have no more" in shop.say("call", "show", waiting)


def boxes_are_explained(shop: Commands) -> None:
    (worker,) = (each["worker"] for each in shop.plain("worker", "list"))
    box = why(shop, worker[:8], of_kind("unable"))
    assert "H100" in box["facts"]["cannot run"][0]
    assert "cannot run what waits" in shop.say("worker", "show", worker)
    shop.say("worker", "cordon", worker)
    assert of_kind("cordoned")(shop.plain("why", worker))
    shop.say("worker", "uncordon", worker)


def limits_are_explained(shop: Commands, waiting: str) -> None:
    assert "max_containers 1 (@app.function)" in shop.plain("why", "one")["facts"]["limits"]
    function("one").autoscaler.update(max_containers=2)
    assert "attempt 1 of 1" in why(shop, waiting, of_kind("running"))["answer"]
    limits = {each["name"]: each for each in shop.plain("pool", "show", "one")["limits"]}
    limit = limits["max_containers"]
    assert (limit["value"], limit["source"]) == (2, "update_autoscaler")
    assert time.time() - limit["since"] / 1000 < 60
    assert "max_containers 2 (update_autoscaler, " in shop.say("pool", "show", "one")


def test_without_workers_and_an_autoscaler_that_is_the_answer(
    program: Path, settings: Settings, client: Client, tmp_path: Path
) -> None:
    before = clients.use(client)
    commands = Commands(settings, tmp_path)
    commands.say("deploy", program)
    try:
        call = function("invert").spawn(1)
        assert of_kind("fleet")(commands.plain("why", "shop/invert"))
        assert "Start `qmodal up`" in " ".join(commands.say("why", call.object_id).split())
        with started("worker", settings=settings, cwd=tmp_path) as worker:
            why(commands, "shop/invert", of_kind("autoscaler"))
            (row,) = commands.plain("worker", "list")
            assert of_kind("autoscaler")(commands.plain("why", row["host"]))
            worker.terminate()
            worker.communicate(timeout=20)
        with started("autoscaler", settings=settings, cwd=tmp_path) as leader:
            why(commands, "shop/invert", of_kind("workers"))
            call.cancel()
            client.run(client.apps.stop(_record(client)))
            wait_until(lambda: not client.run(client.observing.active()), what="all is put away")
            leader.terminate()
            leader.communicate(timeout=20)
    finally:
        clients.use(before)


def _record(client: Client) -> Any:
    (app,) = client.run(client.apps.deployed()).values()
    return client.run(client.apps.record(app))


def test_what_no_box_can_run_is_said_at_deploy_and_not_without_a_box(
    program: Path, settings: Settings, client: Client, box: None, tmp_path: Path
) -> None:
    commands = Commands(settings, tmp_path)
    wait_until(lambda: commands.plain("worker", "list"), what="a worker", pause=0.2)
    done = run("deploy", program, settings=settings, cwd=tmp_path)
    said = [line for line in done.stderr.splitlines() if "no box can run" in line]
    assert done.returncode == 0
    (line,) = said
    assert line.startswith("qmodal: no box can run train, which needs gpu H100: ")
