"""The autoscaler against a real server, with workers that only act as such."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.spec.options import FunctionOptions
from qmodal.store.fleet import ContainerReport
from qmodal.transport.operation import ask_one
from qmodal_autoscaler.change_log import ChangeLog
from qmodal_autoscaler.cluster.catalog import PoolTerms
from qmodal_autoscaler.cluster.observer import LOOKED_AT_TOGETHER
from qmodal_autoscaler.control.judgement import Purge
from qmodal_autoscaler.control.maintenance import Maintenance
from qmodal_autoscaler.control.workqueue import WorkQueue
from qmodal_autoscaler.policy import scale_down
from qmodal_autoscaler.policy.state import PoolSettings
from tests.support.stage import Stage, autoscaling, options
from tests.support.waiting import wait_until

WINDOW = 1  # seconds; shorter than users may choose


@pytest.fixture
def stage(client: Client, settings: Settings) -> Iterator[Stage]:
    """A stage before a running autoscaler; nothing of its pools may be left at the end."""
    with autoscaling(settings):
        wait_until(lambda: client.run(ask_one(b"GET", client.keys.leader)), what="a leader")
        made = Stage(client)
        yield made
        made.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers that have just become ready may go, too, and many at once: only the window counts."""
    monkeypatch.setattr(scale_down, "FRESH_SECONDS", 0.1)
    monkeypatch.setattr(scale_down, "STEP_SECONDS", 0.1)


def brief(**given: Any) -> FunctionOptions:
    """Options of a function whose containers go soon."""
    return replace(options(**given), scaledown_window=WINDOW)


def failing(report: ContainerReport) -> ContainerReport:
    return replace(report, state="failed", detail="Traceback:\nImportError: no such module")


def test_the_first_input_of_a_pool_has_a_container_at_once(stage: Stage) -> None:
    """Not when all pools are looked at the next time, which is within a second."""
    worker = stage.worker(max_containers=40)
    stage.publish(**{f"f{n}": options() for n in range(40)})

    def seconds(function: str) -> float:
        begin = time.monotonic()
        stage.submit(function)
        wait_until(lambda: worker.assigned(stage.pools[function]), what="an assignment")
        return time.monotonic() - begin

    assert any(seconds(function) < 0.05 for function in stage.pools)


@pytest.mark.usefixtures("hasty")
def test_a_pool_shrinks_to_nothing_after_its_window_and_costs_nothing_then(stage: Stage) -> None:
    stage.worker()
    stage.publish(f=brief())
    stage.submit(count=3)
    stage.until(lambda: len(stage.assigned()) == 3, "a container for each input")
    begin = time.monotonic()
    stage.until(stage.serve, "all inputs end")
    stage.until(lambda: not stage.assigned(), "the containers go")
    assert time.monotonic() - begin >= WINDOW
    stage.until(lambda: not stage.active(), "the pool is inactive")
    left = stage.client.run(ask_one(b"PTTL", stage.client.keys.pool(stage.pools["f"])))
    assert left > 0


@pytest.mark.usefixtures("hasty")
def test_a_pool_says_whether_a_lone_input_needs_a_look(stage: Stage) -> None:
    def is_served() -> bool:
        (seen,) = stage.client.run(stage.client.observing.observe([stage.pools["f"]]))
        return seen is not None and seen.is_served

    stage.worker()
    stage.publish(f=brief())
    stage.submit()
    stage.until(is_served, "a pool that serves")
    stage.until(stage.serve, "the input ends")
    stage.until(lambda: not stage.assigned(), "the container is told to end")
    assert not is_served()


@pytest.mark.usefixtures("hasty")
def test_a_container_with_inputs_too_short_to_be_seen_stays(stage: Stage) -> None:
    stage.worker()
    stage.publish(f=brief())
    stage.submit()
    first = stage.until(stage.assigned, "a container")
    ends = time.monotonic() + 1.7 * WINDOW
    served = [time.monotonic()]

    def one_now_and_then() -> bool:
        if time.monotonic() - served[-1] > WINDOW / 5:
            stage.submit()
            served.append(time.monotonic())
        stage.serve()
        return time.monotonic() > ends

    stage.until(one_now_and_then, "the end of the show")
    assert stage.assigned() == first


def test_no_pool_has_more_containers_than_its_maximum(stage: Stage) -> None:
    stage.worker()
    stage.publish(f=options(max_containers=3), g=options())
    stage.submit(count=10)
    stage.until(lambda: len(stage.assigned()) == 3, "three containers")
    stage.submit(count=10)
    stage.submit("g", count=2)
    stage.until(lambda: len(stage.assigned("g")) == 2, "the other pool is looked at, too")
    assert len(stage.assigned()) == 3


def test_a_minimum_is_kept_without_any_calls_and_after_a_death(stage: Stage) -> None:
    worker = stage.worker()
    stage.publish(f=brief(min_containers=2))
    stage.until(lambda: len(worker.roster) == 2, "two of them")
    first = min(worker.roster)
    worker.becomes(first, state="ended", detail="its container was killed by signal 9")
    stage.until(
        lambda: len(worker.roster) == 2 and first not in worker.roster,
        "a new one for the dead one",
    )


def test_changed_settings_take_effect_within_300_milliseconds(stage: Stage) -> None:
    stage.worker()
    stage.publish(f=options(max_containers=1))
    stage.submit(count=20)
    stage.until(lambda: len(stage.assigned()) == 1, "one container")

    def seconds(most: int) -> float:
        begin = time.monotonic()
        limits = {"max_containers": most}
        override = stage.client.apps.override(stage.app_id, stage.pools["f"], limits)
        stage.client.run(override)
        stage.until(lambda: len(stage.assigned()) == most, "so many containers")
        return time.monotonic() - begin

    assert any(seconds(most) < 0.3 for most in range(4, 16))


def test_a_pool_may_let_inputs_wait_so_that_fewer_containers_start(stage: Stage) -> None:
    client = stage.client
    stage.worker(max_containers=100, fate=lambda report: report)
    stage.publish(f=options(scaleup_softness=1), g=options(scaleup_softness=1))
    for pool in stage.pools.values():
        times = ("service_time", "1.0", "start_time", "80.0")
        client.run(ask_one(b"HSET", client.keys.pool(pool), *times))
    stage.submit("f", count=40)
    stage.until(lambda: stage.assigned("f"), "as few as will do")
    stage.submit("g", count=1)
    stage.until(lambda: stage.assigned("g"), "another look")
    assert len(stage.assigned("f")) <= 2
    limits = {"scaleup_softness": 0.0}
    client.run(client.apps.override(stage.app_id, stage.pools["f"], limits))
    stage.until(lambda: len(stage.assigned("f")) > 20, "one for almost each input")


def test_a_pool_grows_once_more_containers_have_been_needed_for_its_window(stage: Stage) -> None:
    client = stage.client
    stage.worker(max_containers=100, fate=lambda report: report)
    stage.publish(f=options(scaleup_window=300), g=options())
    stage.submit("f", count=10)
    stage.submit("g", count=10)
    stage.until(lambda: len(stage.assigned("g")) == 10, "a pool without a window grows at once")
    stage.until(lambda: stage.assigned("f"), "the first one does not wait")
    assert len(stage.assigned("f")) == 1
    limits = {"scaleup_window": 0}
    client.run(client.apps.override(stage.app_id, stage.pools["f"], limits))
    stage.until(lambda: len(stage.assigned("f")) == 10, "the window is taken away")


def test_callers_are_told_when_the_containers_of_an_app_cannot_start(stage: Stage) -> None:
    failed: list[str] = []

    def fate(report: ContainerReport) -> ContainerReport:
        failed.append(report.pool)
        return failing(report)

    stage.state = "ephemeral"
    stage.worker(fate=fate)
    stage.publish(f=options(), g=options(on_crash_loop="hold"))
    held, call = stage.submit("g"), stage.submit(count=2)
    notes = stage.until(lambda: stage.notes(call), "the callers are told", seconds=20)
    assert notes == ["init: Traceback:\nImportError: no such module"] * 2
    stage.until(lambda: not stage.assigned(), "nothing is tried any more")
    stage.until(lambda: failed.count(stage.pools["g"]) >= 3, "the other one has failed as often")
    late = stage.submit()
    stage.until(lambda: stage.notes(late), "whoever calls now is told at once")
    assert stage.notes(held) == []


def test_a_start_that_fails_once_is_tried_again(stage: Stage) -> None:
    worker = stage.worker(fate=failing)
    stage.publish(f=options())
    stage.submit()
    first = stage.until(lambda: sorted(worker.roster), "a first try")
    worker.fate = lambda report: replace(report, state="ready")
    stage.until(lambda: stage.assigned() not in ([], first), "a second try", seconds=20)
    stage.until(stage.serve, "the input runs")


def counted(stage: Stage, name: str) -> int:
    """What the statistics of all functions have of that."""
    statistics = stage.client.statistics
    found = stage.client.run(statistics.read(stage.client.run(statistics.series())))
    return sum(each.get(name, 0) for each in found.values())


def test_a_stopped_app_ends_what_waits_and_what_runs(stage: Stage) -> None:
    worker = stage.worker(max_containers=1)
    stage.publish(f=options())
    call = stage.submit(count=3)
    (container,) = stage.until(stage.assigned, "a container")
    stage.until(lambda: worker.claim(container), "it runs an input")
    stage.client.run(stage.client.apps.stop(stage.record()))
    stage.until(lambda: len(stage.notes(call)) == 3, "all three callers are told")
    assert stage.notes(call) == ["stopped: the app was stopped"] * 3
    stage.until(lambda: counted(stage, "purged") == 3, "they are counted")
    stage.until(lambda: not stage.assigned() and not stage.active(), "nothing is left")


def test_a_function_that_a_new_version_has_no_more_ends(stage: Stage) -> None:
    stage.worker()
    stage.publish(f=options(), g=options())
    call = stage.submit()
    stage.until(stage.assigned, "a container")
    stage.publish(g=options())
    (note,) = stage.until(lambda: stage.notes(call), "the caller is told")
    assert note is not None
    assert note.startswith("stopped: version 2 of ")
    assert note.endswith(" has no 'f'")


def test_a_new_version_replaces_the_containers_of_the_old_one(stage: Stage) -> None:
    worker = stage.worker()
    stage.publish(f=brief(min_containers=1))
    old = stage.until(stage.assigned, "a container")
    stage.until(lambda: old[0] in worker.roster, "it runs")
    worker.number = 2
    stage.publish(f=brief(min_containers=1))
    stage.until(
        lambda: [report.number for report in worker.roster.values()] == [2],
        "one of version 2 instead",
    )
    assert old[0] not in worker.roster


def test_retries_are_promoted_when_they_are_due(stage: Stage) -> None:
    worker = stage.worker()
    stage.publish(f=options())
    stage.submit()
    (container,) = stage.until(stage.assigned, "a container")
    claimed = stage.until(lambda: worker.claim(container), "the input")

    def seconds() -> float:
        nonlocal claimed
        begin = time.monotonic()
        stage.client.run(stage.client.pools.retry(stage.pools["f"], claimed[0], delay=0.4))
        claimed = wait_until(lambda: worker.claim(container), what="its next attempt")
        took = time.monotonic() - begin
        assert took >= 0.39
        return took

    assert any(seconds() < 0.6 for _ in range(20))
    worker.settle(stage.pools["f"], claimed)


@pytest.mark.leaves_keys  # the call whose inputs are lost
def test_a_pool_that_cannot_be_read_stops_no_other(stage: Stage) -> None:
    stage.worker()
    stage.publish(f=options(), g=options())
    stage.submit()
    inputs = stage.client.keys.inputs(stage.pools["f"])
    stage.client.run(ask_one(b"SET", inputs, b"no stream"))
    stage.submit("g")
    stage.until(lambda: stage.assigned("g"), "the other pool's container")
    # What is no stream is removed, so that the pool can be used again.
    stage.until(lambda: stage.client.run(ask_one(b"TYPE", inputs)) != "string", "it is gone")


def test_a_full_fleet_takes_idle_containers_from_pools_that_have_more(stage: Stage) -> None:
    stage.worker(max_containers=2)
    stage.publish(f=options(scaledown_window=600), g=options())
    stage.submit(count=2)
    stage.until(lambda: len(stage.assigned()) == 2, "the fleet is full")
    stage.until(stage.serve, "all inputs end")
    stage.submit("g")
    stage.until(lambda: stage.assigned("g"), "room for the other pool")
    assert len(stage.assigned()) == 1


def test_a_worker_that_is_about_to_stop_gets_nothing_new(stage: Stage) -> None:
    leaving, staying = stage.worker(max_containers=9), stage.worker(max_containers=3)
    stage.publish(f=options(), g=options())
    stage.submit()
    (container,) = stage.until(stage.assigned, "a container")
    assert leaving.assigned() == [container]
    stage.until(lambda: container in leaving.roster, "it runs")
    leaving.becomes(container, state="draining")
    stage.submit("g", count=2)
    stage.until(lambda: len(stage.assigned("g")) == 2, "two containers")
    assert len(staying.assigned(stage.pools["g"])) == 2


def test_what_a_container_gives_back_does_not_wait_for_its_exit_hooks(stage: Stage) -> None:
    worker = stage.worker(max_containers=2)
    stage.publish(f=options())
    stage.submit()
    first = stage.until(lambda: list(worker.roster), "a container")
    worker.becomes(first[0], leaving=True)
    stage.until(lambda: len(worker.roster) == 2, "another one")
    assert set(first) < set(stage.assigned())


@pytest.mark.parametrize("kind", ["assigned", "reported"])
def test_containers_that_start_count_as_capacity(stage: Stage, kind: str) -> None:
    def slow(report: ContainerReport) -> ContainerReport:
        return report

    worker = stage.worker(fate=slow)
    worker.is_deaf = kind == "assigned"
    stage.publish(f=options())
    stage.submit(count=2)
    stage.until(lambda: len(stage.assigned()) == 2, "a container for each input")
    seen: list[Any] = []

    def looked() -> bool:
        """Two inputs, and as many wake-ups later."""
        seen.append(stage.client.run(stage.client.fleet.wake(stage.pools["f"])))
        return len(seen) > 50

    stage.until(looked, "many looks")
    assert len(stage.assigned()) == 2


def test_a_box_that_cannot_decode_an_input_is_passed_over_for_one_that_may(stage: Stage) -> None:
    unfit, other = stage.worker(max_containers=16), stage.worker(max_containers=2)
    stage.publish(f=options())
    stage.submit()
    stage.until(lambda: unfit.roster, "a container on the larger box")
    unfit.becomes(min(unfit.roster), state="ended", unfit=True)
    stage.until(lambda: other.assigned(), "the next one is on the other box")
    assert stage.until(stage.serve, "it runs there") == 1


def test_a_purge_that_a_deploy_has_overtaken_ends_nothing(stage: Stage) -> None:
    stage.publish(f=options(max_containers=1))
    pool, client = stage.pools["f"], stage.client
    terms = PoolTerms(label="f", function="f", app=stage.app_id, number=1, settings=PoolSettings())
    call = stage.submit()
    stage.publish(f=options())

    async def purge(current: int) -> None:
        maintenance = Maintenance(client, WorkQueue(), ChangeLog())
        async with asyncio.TaskGroup() as maintenance.group:
            maintenance.purge(pool, Purge(terms=terms, reason="init: no luck", current=current))
        await client.aclose()

    asyncio.run(purge(1))
    assert stage.notes(call) == []
    asyncio.run(purge(2))
    assert stage.notes(call) == ["init: no luck"]


def test_a_detached_app_with_many_pools_ends_when_all_of_them_have_done_their_work(
    stage: Stage,
) -> None:
    """Pools of which nobody says anything are looked at a few at a time, and the app ends when all were."""
    stage.state = "detached"
    stage.worker(max_containers=100)
    names = [f"f{number}" for number in range(LOOKED_AT_TOGETHER + 3)]
    stage.publish(**{name: options() for name in names})
    for name in names:
        stage.submit(name)
    stage.until(lambda: all(map(stage.assigned, names)), "a container for each", seconds=30)

    served = 0
    while served < len(names):
        served += stage.until(lambda: sum(map(stage.serve, names)), "inputs that are served")

    def state() -> str:
        record = stage.client.run(stage.client.apps.record(stage.app_id))
        return "" if record is None else record.state

    stage.until(lambda: state() == "stopped", "the app ends", seconds=30)
