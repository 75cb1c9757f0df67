"""Metrics of a worker and of autoscalers at work, as Prometheus scrapes them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.source.loader import load_file
from tests.support.boxes import Fleet
from tests.support.servers import TestServer
from tests.support.waiting import wait_until
from tests.support.web.scraping import (
    Scrape,
    autoscaler,
    fetch,
    free_port,
    lint,
    scrape,
    unexplained,
    until_up,
)

pytestmark = pytest.mark.leaves_keys
PROGRAM = Path(__file__).parents[2] / "programs" / "boxes" / "counted.py"
POOL_METRIC = "qmodal_waiting_inputs"
FUNCTION = {"environment": "main", "app": "counted"}


@dataclass(frozen=True, slots=True)
class Installation:
    """A program, a worker and an autoscaler that leads, and the ports of the latter two."""

    user: Any
    worker: int
    leader: int
    leading: subprocess.Popen[bytes]


@pytest.fixture
def installed(client: Client, settings: Settings) -> Iterator[Installation]:
    """One of each, at work."""
    worker, leader = free_port(), free_port()
    with (
        autoscaler(settings, "--metrics-port", str(leader)) as leading,
        Boxes(client).box("--metrics-port", str(worker)),
    ):
        until_up(worker)
        until_up(leader)
        clients.use(client)
        module: Any = load_file(PROGRAM)
        with module.app.run():
            yield Installation(module, worker, leader, leading)


class Boxes(Fleet):
    """Boxes only: an autoscaler leads."""

    def __init__(self, client: Client) -> None:
        self.client, self.folder = client, client.settings.home


def until(port: int, is_so: Callable[[Scrape], object], what: str) -> Scrape:
    """The first scrape of which that is so."""

    def seen() -> Scrape | None:
        found = scrape(port)
        return found if is_so(found) else None

    found = wait_until(seen, what=what, seconds=40, pause=0.1)
    assert found is not None
    return found


def test_a_leader_shows_what_was_called_and_what_there_is(installed: Installation) -> None:
    user, square = installed.user, {**FUNCTION, "function": "square"}
    for x in range(5):
        user.square.remote(x)
    assert len(list(user.square.map(range(1_000)))) == 1_000
    for x in range(3):
        with suppress(ValueError):
            user.fails.remote(x)
    found = until(
        installed.leader,
        lambda seen: (
            seen.value("qmodal_inputs_total", **square, outcome="value") == 1_005
            and seen.total("qmodal_inputs_total", outcome="error") == 3
        ),
        "all calls are counted",
    )
    for histogram in (
        "qmodal_run_seconds",
        "qmodal_queue_wait_seconds",
        "qmodal_end_to_end_seconds",
    ):
        assert found.value(f"{histogram}_count", **square) == 1_005
        assert found.value(f"{histogram}_bucket", **square, le="+Inf") == 1_005
    assert found.value("qmodal_redis_up") == 1
    assert found.value("qmodal_autoscaler_leads") == 1
    assert found.value("qmodal_boxes") == 1
    assert found.value("qmodal_dead_letters") == 0
    assert found.value("qmodal_redis_maxmemory_policy", policy="noeviction") == 1
    assert found.total("qmodal_containers", **square) >= 1
    assert found.total("qmodal_desired_containers", **square) >= 1
    assert found.total("qmodal_scaling_changes_total", **square, direction="more") >= 1
    assert found.total("process_resident_memory_bytes") > 0
    for pools in ("all", "due"):
        assert found.total("qmodal_round_seconds_count", pools=pools) >= 1
    assert unexplained(found) == set()
    assert lint(installed.leader) == ""


def test_inputs_that_wait_have_a_number_and_an_age(installed: Installation) -> None:
    pid = {**FUNCTION, "function": "pid"}
    calls = [installed.user.pid.spawn(60.0) for _ in range(4)]
    found = until(
        installed.leader,
        lambda seen: (
            seen.value("qmodal_running_inputs", **pid) == 1
            and (seen.value("qmodal_oldest_waiting_input_age_seconds", **pid) or 0) > 1
        ),
        "inputs wait",
    )
    assert found.value("qmodal_waiting_inputs", **pid) == 3
    assert found.total("qmodal_desired_containers", **pid) == 1
    for call in calls:
        call.cancel()


def test_starts_that_are_put_off_are_shown_with_what_the_last_was_due_to(
    installed: Installation,
) -> None:
    installed.user.Broken().read.spawn()
    broken = {**FUNCTION, "function": "Broken.*", "reason": "exit"}
    found = until(
        installed.leader,
        lambda seen: (seen.value("qmodal_pool_crash_backoff_seconds", **broken) or 0) > 0,
        "a start has failed",
    )
    assert (found.value("qmodal_pool_crash_backoff_seconds", **broken) or 0) < 20
    assert unexplained(found) == set()


def spends(installed: Installation, seen: Scrape) -> bool:
    """Whether some processor time is shown; a call takes less of it than the system counts."""
    installed.user.square.remote(1)
    return (seen.value("qmodal_box_cpu_seconds_total") or 0) > 0


def test_a_worker_shows_its_box(installed: Installation) -> None:
    installed.user.square.remote(1)
    found = until(
        installed.worker,
        lambda seen: (seen.value("qmodal_box_container_memory_bytes") or 0) > 1_000_000,
        "a container runs",
    )
    assert (found.value("qmodal_box_containers", state="ready") or 0) >= 1
    assert (found.value("qmodal_box_container_starts_total") or 0) >= 1
    until(installed.worker, lambda seen: spends(installed, seen), "its processes have spent a tick")
    assert 0 <= (found.value("qmodal_box_lease_age_seconds") or 0) < 10
    assert found.value("qmodal_redis_up") == 1
    assert "qmodal_inputs_total" not in found.names  # those are the leader's
    assert unexplained(found) == set()
    assert lint(installed.worker) == ""
    assert fetch(installed.worker, "/readyz")[0] == fetch(installed.leader, "/readyz")[0] == 200
    assert fetch(installed.worker, "/else")[0] == 404


def test_an_autoscaler_that_stands_by_shows_itself_only(
    installed: Installation, settings: Settings
) -> None:
    installed.user.square.remote(1)
    port = free_port()
    with autoscaler(settings, "--metrics-port", str(port)):
        until_up(port)
        found = until(port, lambda seen: seen.value("qmodal_redis_up") == 1, "the server answers")
        names = {name for name in found.names if name.startswith("qmodal_")}
        assert names == {"qmodal_redis_up", "qmodal_autoscaler_leads"}
        assert found.value("qmodal_autoscaler_leads") == 0


def test_when_another_autoscaler_leads_counters_go_on_and_pools_have_labels_if_it_is_told_so(
    installed: Installation, settings: Settings
) -> None:
    user, square, shelf = (
        installed.user,
        {**FUNCTION, "function": "square"},
        {**FUNCTION, "function": "Shelf.*"},
    )
    user.square.remote(1)
    before = until(
        installed.leader,
        lambda seen: seen.value("qmodal_inputs_total", **square, outcome="value") == 1,
        "the call is counted",
    )
    assert before.value("qmodal_autoscaler_leads") == 1
    port = free_port()
    with autoscaler(settings, "--metrics-port", str(port), "--pool-labels", "2"):
        until_up(port)
        assert scrape(port).value("qmodal_autoscaler_leads") == 0
        installed.leading.kill()
        for name, size in (("hedgehog", 7), ("fox", 8), ("owl", 9)):
            user.Shelf(name=name, size=size).read.spawn()
        found = until(
            port,
            lambda seen: seen.total("qmodal_desired_containers", pool="other", **shelf) == 1,
            "it leads, and three pools have inputs",
        )
        total = scrape(port).total("qmodal_autoscaler_leads")
        total += scrape(installed.leader).total("qmodal_autoscaler_leads")
        assert total == 1
        for key, value in before.samples.items():
            if key[0] == "qmodal_inputs_total":
                assert found.samples[key] >= value
        pools = {dict(labels)["pool"] for name, labels in found.samples if name == POOL_METRIC}
        shelves = {"name=hedgehog,size=7", "name=fox,size=8", "name=owl,size=9"}
        assert {"", "other"} < pools < {"", "other"} | shelves
        assert len(pools) == 4  # the first two that the leader has seen have names
        assert unexplained(found) == set()
        assert lint(port) == ""


def test_a_server_that_stands_still_is_said_to_be_away_and_holds_up_no_scrape(
    installed: Installation, server: TestServer
) -> None:
    installed.user.square.remote(1)
    with server.frozen():
        for port in (installed.worker, installed.leader):
            assert scrape(port).value("qmodal_redis_up") == 0
        assert "qmodal_inputs_total" not in scrape(installed.leader).names
        assert fetch(installed.leader, "/healthz")[0] == 200
        assert fetch(installed.leader, "/readyz")[0] == 503
    until(
        installed.leader, lambda seen: seen.value("qmodal_autoscaler_leads") == 1, "it leads again"
    )


def test_a_port_that_is_taken_ends_the_process_with_a_sentence(
    installed: Installation, settings: Settings
) -> None:
    with autoscaler(settings, "--metrics-port", str(installed.worker)) as process:
        assert process.wait(30) == 2
