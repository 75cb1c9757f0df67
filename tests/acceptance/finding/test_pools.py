"""`qmodal pool`: what pools do, a queue that is dropped, and a pool that is paused and resumed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import qmodal
from qmodal.client.client import current
from qmodal.exception import RemoteError
from qmodal.store.history.statistics import Series
from tests.acceptance.finding.commands import Commands
from tests.support.waiting import wait_until


def function(name: str, **options: Any) -> Any:
    return qmodal.Function.from_name("shop", name).with_options(**options)


def the_pool(shop: Commands, name: str) -> dict[str, Any]:
    found = [each for each in shop.plain("pool", "list") if each["function"].startswith(name)]
    return found[0] if found else {}


def test_a_paused_pool_lets_its_inputs_wait_also_after_a_deploy(
    shop: Commands, program: Path
) -> None:
    """Before anybody has called the function, too: no container has to start first."""
    assert shop.say("pool", "pause", "invert").startswith("Paused invert [")
    assert shop.say("pool", "pause", "invert").endswith("is paused already\n")
    call = qmodal.Function.from_name("shop", "invert").spawn(4712)
    program.write_text(f"{program.read_text()}\n# another version\n")
    shop.say("deploy", program)
    with pytest.raises(TimeoutError):
        call.get(timeout=3)
    scaler = qmodal.Function.from_name("shop", "invert").autoscaler
    scaler.update(scaleup_softness=0.5)
    row = the_pool(shop, "invert")
    assert (row["state"], row["waiting"], row["containers"]) == ("paused", 1, 0)
    shown = shop.plain("pool", "show", row["pool"][:8])
    assert shown["paused"] >= 3
    assert shown["oldest"] >= 3
    assert {each["name"]: each["value"] for each in shown["limits"]} == asdict(scaler.settings())
    assert "scaleup_softness 0.5" in shop.say("pool", "show", "invert")
    assert "paused" in shop.say("pool", "show", "invert")
    assert shop.say("pool", "reset", "invert").startswith("Reset invert [")
    (seen,) = current().run(current().observing.observe([row["pool"]]))
    assert seen is not None
    assert seen.reset > 0
    assert shop.say("pool", "resume", row["pool"]).startswith("Resumed invert [")
    assert shop.say("pool", "resume", "invert").endswith("is not paused\n")
    assert call.get(timeout=30) == 1.0


def test_what_waits_is_dropped_and_what_runs_goes_on(shop: Commands, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    slow = function("wait_for", max_containers=1)
    running = slow.spawn(str(gate), number=1)
    wait_until(lambda: the_pool(shop, "wait_for").get("running"), what="an input that runs")
    waiting = [slow.spawn(str(gate), number=number) for number in range(3)]
    pool = the_pool(shop, "wait_for")["pool"]
    asked = shop.refused("pool", "purge", pool)
    assert "Aborted" in asked
    assert shop.say("pool", "purge", pool, "-y").startswith("Dropped 3 inputs of wait_for")
    statistics = current().statistics
    counted = current().run(statistics.read([Series("main", "shop", "wait_for")]))
    assert [each["purged"] for each in counted.values()] == [3]
    for call in waiting:
        with pytest.raises(RemoteError, match="dropped with all that waited"):
            call.get(timeout=30)
    gate.touch()
    assert running.get(timeout=30) == 1


def test_containers_of_a_paused_pool_finish_what_they_run(shop: Commands, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    call = qmodal.Function.from_name("shop", "wait_for").spawn(str(gate), number=5)
    wait_until(lambda: the_pool(shop, "wait_for").get("running"), what="an input that runs")
    shop.say("pool", "pause", "wait_for")
    behind = qmodal.Function.from_name("shop", "wait_for").spawn(str(gate), number=6)
    gate.touch()
    assert call.get(timeout=30) == 5
    wait_until(lambda: not the_pool(shop, "wait_for")["containers"], what="its container is gone")
    with pytest.raises(TimeoutError):
        behind.get(timeout=0)
    shop.say("pool", "resume", "wait_for")
    assert behind.get(timeout=30) == 6


def test_names_of_pools_that_are_none_or_several_are_refused(shop: Commands) -> None:
    model = qmodal.Cls.from_name("shop", "Model")
    assert [model(size=size).predict.remote(9) for size in (1, 2)] == [9, 4]
    assert "2 pools are called 'Model': " in shop.refused("pool", "show", "Model")
    assert shop.plain("pool", "show", "Model(size=2)")["submitted"] == 1
    assert "There is no active pool 'nosuch'" in shop.refused("pool", "show", "nosuch")
    assert "'late' has not been called yet" in shop.refused("pool", "purge", "late", "-y")
    assert "There is no app 'nosuch'" in shop.refused("pool", "list", "--app", "nosuch")
