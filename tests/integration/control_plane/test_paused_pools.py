"""Pools that a person has paused: nothing starts, what runs may end, and it lasts until they are resumed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.transport.operation import ask_one
from tests.support.stage import Stage, autoscaling, now_ms, options
from tests.support.waiting import wait_until


@pytest.fixture
def stage(client: Client, settings: Settings) -> Iterator[Stage]:
    """A stage before a running autoscaler; nothing of its pools may be left at the end."""
    with autoscaling(settings):
        wait_until(lambda: client.run(ask_one(b"GET", client.keys.leader)), what="a leader")
        made = Stage(client)
        yield made
        made.close()


def pause(stage: Stage, function: str = "f") -> None:
    client, pool = stage.client, stage.pools[function]
    assert client.run(client.observing.pause(pool, since=now_ms()))
    assert client.run(client.pools.join(pool))


def resume(stage: Stage) -> bool:
    return stage.client.run(stage.client.observing.resume(stage.pools["f"]))


def inflight(stage: Stage) -> int:
    (seen,) = stage.client.run(stage.client.observing.observe([stage.pools["f"]]))
    assert seen is not None
    return seen.inflight


def test_a_paused_pool_gets_no_container_until_it_is_resumed(stage: Stage) -> None:
    stage.worker()
    stage.publish(f=options(), g=options())
    pause(stage)
    stage.submit("f", 3)
    stage.submit("g")
    stage.until(lambda: stage.assigned("g"), "a container of another pool")
    full_looks = time.monotonic() + 2.5
    stage.until(lambda: time.monotonic() > full_looks, "two full looks")
    assert stage.assigned("f") == []
    assert inflight(stage) == 3
    assert resume(stage)
    assert not resume(stage)
    stage.until(lambda: len(stage.assigned("f")) == 3, "a container for each input")
    stage.until(lambda: stage.serve() and not inflight(stage), "all inputs end")


def test_containers_of_a_paused_pool_end_with_what_they_run(stage: Stage) -> None:
    worker = stage.worker()
    stage.publish(f=options(min_containers=2))
    stage.until(lambda: len(stage.assigned()) == 2, "the minimum")
    stage.submit()
    pause(stage)
    stage.until(lambda: not stage.assigned(), "its containers go, the minimum included")
    assert inflight(stage) == 1
    assert resume(stage)
    stage.until(lambda: len(worker.assigned()) == 2, "the minimum again")
    stage.until(lambda: stage.serve() and not inflight(stage), "the input ends")


def test_a_pause_outlives_a_deploy_and_an_empty_queue(stage: Stage) -> None:
    stage.worker()
    stage.publish(f=options())
    pause(stage)
    stage.publish(f=options(max_containers=3))
    full_looks = time.monotonic() + 2.5
    stage.until(lambda: time.monotonic() > full_looks, "an empty pool would be put away")
    assert stage.active() == [stage.pools["f"]]
    stage.submit()
    full_looks = time.monotonic() + 2.5
    stage.until(lambda: time.monotonic() > full_looks, "two full looks")
    assert stage.assigned() == []
    assert resume(stage)
    stage.until(lambda: stage.serve() and not inflight(stage), "the input ends")


def test_a_pool_that_nobody_opened_cannot_be_paused(client: Client) -> None:
    assert not client.run(client.observing.pause("00" * 16, since=1))
    assert not client.run(ask_one(b"EXISTS", client.keys.pool("00" * 16)))
