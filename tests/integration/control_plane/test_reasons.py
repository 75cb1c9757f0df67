"""Why pools wait: what the leader says of them, each reason brought about by boxes that are painted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from qmodal.client.client import Client
from qmodal.client.waiting.why import fleet_state, reason_of
from qmodal.config import Settings
from qmodal.store.watch.reasons import Kind, Reason
from qmodal.transport.operation import ask_one
from tests.support.stage import PaintedWorker, Stage, autoscaling, options
from tests.support.waiting import wait_until


@pytest.fixture
def stage(client: Client, settings: Settings) -> Iterator[Stage]:
    with autoscaling(settings):
        made = Stage(client)
        yield made
        made.close()


def reason(stage: Stage, function: str) -> Reason:
    """Why the pool waits, as anybody finds it."""
    client = stage.client
    (seen,) = client.run(client.observing.observe([stage.pools[function]]))
    assert seen is not None
    return reason_of(seen, client.run(fleet_state(client.fleet, client.boxes, "redis://host")))


def waits_for(stage: Stage, function: str, kind: Kind) -> Reason:
    """The reason, once it is of that kind."""
    found = stage.until(
        lambda: found if (found := reason(stage, function)).kind == kind else None,
        f"{function} waits: {kind}",
        seconds=20,
    )
    assert found is not None
    return found


def busy(worker: PaintedWorker) -> None:
    """Every container of the box claims an input and keeps it."""
    for container in list(worker.roster):
        worker.claim(container)


def painted(stage: Stage, **offers: Any) -> PaintedWorker:
    """A worker that offers that."""
    worker = stage.worker(max_containers=2)
    client = stage.client
    about = client.run(client.boxes.records([worker.name]))[worker.name].report
    assert client.run(client.boxes.describe(replace(about, **offers)))
    return worker


def test_pools_are_told_why_they_wait_for_room_and_how_many_are_ahead(stage: Stage) -> None:
    worker = stage.worker(max_containers=1)
    stage.publish(f0=options(), f1=options(), f2=options())
    stage.submit("f0")
    stage.until(lambda: worker.roster, "it runs")
    busy(worker)
    for name in ("f1", "f2"):
        stage.submit(name)
    found = [waits_for(stage, name, "room") for name in ("f1", "f2")]
    assert {each.text for each in found} == {"no worker has room: 1 of 1 containers run"}
    client = stage.client
    wait_until(lambda: client.run(client.fleet.reasons()).of, what="the leader says it")
    assert client.run(ask_one(b"PTTL", client.keys.reasons)) <= 5_000
    wait_until(
        lambda: sorted(reason(stage, name).ahead for name in ("f1", "f2")) == [0, 1],
        what="one is ahead of the other",
    )


def test_a_pool_at_its_limit_is_told_so_and_nothing_when_all_is_done(stage: Stage) -> None:
    worker = stage.worker()
    stage.publish(f0=options(max_containers=1))
    stage.submit("f0")
    stage.until(lambda: worker.roster, "it runs")
    busy(worker)
    stage.submit("f0", count=3)
    assert "`max_containers` is 1" in waits_for(stage, "f0", "maximum").text
    client = stage.client
    client.run(client.pools.purge(stage.pools["f0"], reason="stopped: enough"))
    wait_until(lambda: not client.run(client.fleet.reasons()).of, what="nothing waits")


def test_a_pool_whose_containers_fail_is_told_the_error_and_the_pause(stage: Stage) -> None:
    detail = "Traceback\nImportError: torch"
    stage.worker(fate=lambda report: replace(report, state="failed", detail=detail))
    stage.publish(f0=options())
    stage.submit("f0")
    text = waits_for(stage, "f0", "failing").text
    assert text.startswith("its containers do not start: ImportError: torch (")


def test_a_pool_whose_container_starts_is_told_for_how_long(stage: Stage) -> None:
    stage.worker(fate=lambda report: report)
    stage.publish(f0=options())
    stage.submit("f0")
    assert "a container for it starts, for " in waits_for(stage, "f0", "starting").text


def test_a_paused_pool_is_told_so(stage: Stage) -> None:
    stage.worker()
    stage.publish(f0=options())
    client = stage.client
    client.run(client.observing.pause(stage.pools["f0"], since=1))
    stage.submit("f0")
    sentence = waits_for(stage, "f0", "paused").sentence(stage.pools["f0"])
    assert f"`qmodal pool resume {stage.pools['f0']}`" in sentence
    client.run(client.observing.resume(stage.pools["f0"]))


def test_who_has_made_room_for_others_is_told_that(stage: Stage) -> None:
    worker = stage.worker(max_containers=2)
    stage.publish(f0=options(), f1=options())
    stage.submit("f0", count=4)
    stage.until(lambda: len(worker.roster) == 2, "all places are taken")
    busy(worker)
    stage.submit("f1", count=4)
    stage.until(lambda: len(stage.assigned("f1")) == 1, "half of it", seconds=30)
    found = waits_for(stage, "f0", "lent")
    assert found.text == "1 of its containers has lately made room for pools that had fewer"
