"""More pools than places: the leader gives room in turns, assigns ahead, and takes back what nobody needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.store.fleet import WaitingLine
from qmodal.transport.operation import ask_one
from tests.support.stage import PaintedWorker, Stage, autoscaling, options
from tests.support.waiting import wait_until

NAMES = [f"f{number}" for number in range(12)]


@pytest.fixture
def stage(client: Client, settings: Settings) -> Iterator[Stage]:
    with autoscaling(settings):
        made = Stage(client)
        yield made
        made.close()


def busy(stage: Stage, worker: PaintedWorker) -> None:
    """Every container of the box claims an input and keeps it."""
    for container in list(worker.roster):
        worker.claim(container)


def test_a_box_is_assigned_ahead_and_the_others_are_told_their_turn(stage: Stage) -> None:
    worker = stage.worker(max_containers=2, ahead=3)
    stage.publish(**{name: options() for name in NAMES})
    for name in NAMES:
        stage.submit(name)
    stage.until(lambda: len(worker.assigned()) == 5, "two, and three ahead")
    stage.until(lambda: len(worker.roster) == 2, "the two run")
    fleet = stage.client.fleet
    line = stage.until(lambda: _whole(stage.client.run(fleet.line())), "what people are told")
    assert line is not None
    # Also those whose containers wait on the box.
    assert all(line.turn(stage.pools[name]) for name in NAMES if not _runs(stage, worker, name))
    assert (line.places, line.waiting) == (2, 10)
    assert stage.client.run(ask_one(b"PTTL", stage.client.keys.line)) > 0


def _whole(line: WaitingLine | None) -> WaitingLine | None:
    return line if line is not None and line.waiting == 10 else None


def _runs(stage: Stage, worker: PaintedWorker, name: str) -> bool:
    return any(each.pool == stage.pools[name] for each in worker.roster.values())


def test_every_pool_gets_its_turn_as_containers_give_way(stage: Stage) -> None:
    worker = stage.worker(max_containers=2, ahead=2)
    stage.publish(**{name: options(scaledown_window=600) for name in NAMES})
    for name in NAMES:
        stage.submit(name)
    served: set[str] = set()

    def serve() -> bool:
        for name in NAMES:
            stage.serve(name)
        for container, report in list(worker.roster.items()):
            if not report.is_over and len(worker.assigned()) > 2:
                served.add(report.pool)
                worker.becomes(container, state="ended", gave_way=True)
        return len(served | {each.pool for each in worker.roster.values()}) == len(NAMES)

    stage.until(serve, "all have had a container")
    wait_until(lambda: not stage.client.run(stage.client.fleet.line()), what="nobody waits")


def test_what_waits_on_a_full_box_goes_to_one_that_has_room(stage: Stage) -> None:
    full = stage.worker(max_containers=1, ahead=4)
    stage.publish(**{name: options() for name in NAMES})
    for name in NAMES[:4]:
        stage.submit(name)
    stage.until(lambda: len(full.assigned()) == 4, "one, and three ahead")
    stage.until(lambda: len(full.roster) == 1, "it runs")
    busy(stage, full)
    other = stage.worker(max_containers=8, ahead=4)
    stage.until(lambda: len(other.roster) == 3, "the three run on the other one")
    assert len(full.assigned()) == 1


def test_what_waits_for_nothing_is_taken_back(stage: Stage) -> None:
    worker = stage.worker(max_containers=1, ahead=4)
    stage.publish(f0=options(), f1=options())
    stage.submit("f0")
    stage.until(lambda: worker.roster, "it runs")
    busy(stage, worker)
    call = stage.submit("f1")
    stage.until(lambda: len(worker.assigned()) == 2, "one ahead")
    client = stage.client
    client.run(client.calls.cancel(call))
    stage.until(lambda: len(worker.assigned()) == 1, "it is taken back")


def test_who_has_more_than_a_share_gives_busy_containers_which_go_on(stage: Stage) -> None:
    worker = stage.worker(max_containers=4)
    stage.publish(f0=options(), f1=options())
    stage.submit("f0", count=4)
    stage.until(lambda: len(worker.roster) == 4, "all places are taken")
    busy(stage, worker)
    stage.submit("f1", count=4)
    stage.until(lambda: len(stage.assigned("f0")) == 2, "half of it is enough", seconds=30)
    stage.until(lambda: len(stage.assigned("f1")) == 2, "the other half")
    assert len(stage.assigned("f0")) == 2


def test_a_priority_is_a_share(stage: Stage) -> None:
    worker = stage.worker(max_containers=8)
    stage.publish(f0=options(), f1=options(priority=3))
    stage.submit("f0", count=20)
    stage.submit("f1", count=20)
    stage.until(lambda: len(worker.roster) == 8, "all places are taken")
    busy(stage, worker)
    stage.until(lambda: len(stage.assigned("f1")) == 6, "three quarters", seconds=30)
    assert len(stage.assigned("f0")) == 2
