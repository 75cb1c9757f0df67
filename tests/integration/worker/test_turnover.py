"""A box that was assigned more than it has room for: what is idle gives way, and the next one starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from qmodal.spec.options import AutoscalerOverride, validated_options
from qmodal.store.fleet import ContainerReport
from tests.support.boxes import PROGRAM, Box, Fleet
from tests.support.waiting import wait_until

pytestmark = pytest.mark.leaves_keys

SOURCE = """
import asyncio, os, time

def add(x, y):
    return x + y

def kept(x, y):
    return x + y

async def together(x, y):
    return x + y

def until_told(go, mark):
    open(mark, "w").close()
    while not os.path.exists(go):
        time.sleep(0.01)
    return "told"
"""

# Templates that are not kept go at once.
FORGETFUL = (
    "from qmodal_workers.spawn import template_pool; template_pool.IDLE_TEMPLATE_SECONDS = 0.1; "
    + PROGRAM
)


@pytest.fixture
def small(fleet: Fleet) -> Iterator[Box]:
    """A box for two containers."""
    with fleet.box("--max-containers", "2") as box:
        yield box


def over(fleet: Fleet, box: Box, container: str) -> ContainerReport:
    """Its report once it has ended because others waited."""
    report = fleet.until(box, container, "ended")
    assert report.gave_way
    return report


def test_a_container_that_is_idle_gives_way_to_one_that_waits(
    fleet: Fleet, small: Box, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"add": None, "kept": None})
    first, second = (fleet.ready(small, pools["add"]).container for _ in range(2))
    assert fleet.value(fleet.call(pools["add"], 1, 2)) == 3
    waits = fleet.assign(small, pools["kept"])
    assert fleet.value(fleet.call(pools["kept"], 3, 4)) == 7
    fleet.until(small, waits, "ready")
    wait_until(
        lambda: _has_given_way(fleet, small, first) or _has_given_way(fleet, small, second),
        what="one ended",
    )
    assert not (_has_given_way(fleet, small, first) and _has_given_way(fleet, small, second))
    assert fleet.pending(pools["kept"]) == {waits: 0}


def test_one_that_serves_its_last_input_ends_by_itself_while_others_wait(
    fleet: Fleet, small: Box, tmp_path: Path
) -> None:
    pools = fleet.publish(tmp_path / "src", SOURCE, {"add": None, "until_told": None})
    go = tmp_path / "go"
    busy = fleet.ready(small, pools["until_told"]).container
    told = fleet.begin(pools["until_told"], str(go))
    calls = [fleet.call(pools["add"], number, 1) for number in range(3)]
    others = [fleet.assign(small, pools["add"]) for _ in range(3)]
    assert [fleet.value(each) for each in calls] == [1, 2, 3]
    over(fleet, small, others[0])
    over(fleet, small, others[1])
    # What runs an input is never ended for others, and what nobody waits behind stays.
    fleet.until(small, others[2], "ready")
    assert fleet.until(small, busy, "ready").pid
    go.touch()
    assert fleet.value(told) == "told"


def test_a_container_of_several_inputs_gives_way_too(
    fleet: Fleet, small: Box, tmp_path: Path
) -> None:
    concurrent = validated_options().with_concurrency(5)
    pools = fleet.publish(tmp_path / "src", SOURCE, {"together": concurrent, "add": None})
    idle = [fleet.ready(small, pools["together"]).container for _ in range(2)]
    assert fleet.value(fleet.call(pools["together"], 1, 2)) == 3
    fleet.assign(small, pools["add"])
    assert fleet.value(fleet.call(pools["add"], 1, 2)) == 3
    wait_until(lambda: any(_has_given_way(fleet, small, each) for each in idle), what="one ended")


def _has_given_way(fleet: Fleet, box: Box, container: str) -> bool:
    report = fleet.report(box, container)
    return report is not None and report.is_over and report.gave_way


def test_what_a_minimum_or_a_buffer_keeps_does_not_give_way(
    fleet: Fleet, small: Box, tmp_path: Path
) -> None:
    least = validated_options(min_containers=1)
    pools = fleet.publish(
        tmp_path / "src", SOURCE, {"kept": least, "until_told": None, "add": None}
    )
    client = fleet.client
    kept = fleet.ready(small, pools["kept"])
    overridden = fleet.ready(small, pools["until_told"])
    override = AutoscalerOverride(buffer_containers=1).to_plain()
    client.run(client.apps.override(overridden.app, pools["until_told"], override))
    waits = fleet.assign(small, pools["add"])
    called = fleet.call(pools["add"], 1, 2)
    # Long enough for the others to have been seen idle many times.
    assert fleet.value(fleet.call(pools["kept"], 3, 4)) == 7
    wait_until(lambda: fleet.client.run(client.fleet.assigned([small.name])), what="a look")
    for each in (kept, overridden):
        fleet.until(small, each.container, "ready")
    assert fleet.report(small, waits) is None
    client.run(client.apps.override(overridden.app, pools["until_told"], {"buffer_containers": 0}))
    assert fleet.value(called) == 3
    over(fleet, small, overridden.container)


def test_an_assignment_that_waits_can_be_taken_back(
    fleet: Fleet, small: Box, tmp_path: Path
) -> None:
    least = validated_options(min_containers=1)
    pools = fleet.publish(tmp_path / "src", SOURCE, {"kept": least, "add": None})
    kept = [fleet.ready(small, pools["kept"]).container for _ in range(2)]
    first, second = (fleet.assign(small, pools["add"]) for _ in range(2))
    fleet.take_off(small, first)
    fleet.take_off(small, kept[0])
    fleet.until(small, second, "ready")
    assert fleet.report(small, first) is None


def test_more_pools_than_places_are_all_served_and_nothing_is_left(
    fleet: Fleet, small: Box, tmp_path: Path
) -> None:
    names = [f"f{number}" for number in range(12)]
    source = "".join(f"def {name}(x): return x\n" for name in names)
    pools = fleet.publish(tmp_path / "src", source, dict.fromkeys(names))
    calls = {name: fleet.call(pools[name], number) for number, name in enumerate(names)}
    containers = {name: fleet.assign(small, pools[name]) for name in names}
    assert [fleet.value(calls[name]) for name in names] == list(range(12))
    wait_until(lambda: len(gone(fleet, small, containers)) == 10, what="ten have ended")
    ended = gone(fleet, small, containers)
    assert [fleet.pending(pools[name]) for name in ended] == [{}] * len(ended)


def gone(fleet: Fleet, box: Box, containers: dict[str, str]) -> list[str]:
    """The functions whose containers have given way."""
    return [name for name, each in containers.items() if _has_given_way(fleet, box, each)]


def test_templates_of_deployed_apps_are_kept_the_last_ones_that_were_used(
    fleet: Fleet, tmp_path: Path
) -> None:
    source = "import os\nPID = os.getpid()\ndef pid(): return PID\n"
    with fleet.box("--templates", "1", program=FORGETFUL) as box:
        pools = [
            fleet.publish(tmp_path / name, source, {"pid": None}, name=name)["pid"]
            for name in ("first", "last")
        ]
        templates = [template_of(fleet, box, pool) for pool in pools]
        wait_until(lambda: not psutil.pid_exists(templates[0]), what="the first one is ended")
        assert template_of(fleet, box, pools[1]) == templates[1]
        assert template_of(fleet, box, pools[0]) != templates[0]


def template_of(fleet: Fleet, box: Box, pool: str) -> int:
    """The pid of the template of a container that has come and gone."""
    container = fleet.ready(box, pool).container
    pid: int = fleet.value(fleet.call(pool))
    fleet.take_off(box, container)
    wait_until(lambda: fleet.report(box, container) is None, what="it is forgotten")
    return pid
