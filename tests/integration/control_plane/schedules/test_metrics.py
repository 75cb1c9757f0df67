"""What a scrape of a control process shows, and what foreign jobs do to it."""

from __future__ import annotations

import json

import redis

import qmodal
from qmodal.config import Settings
from tests.integration.control_plane.schedules.conftest import Shop, control
from tests.support.servers import TestServer
from tests.support.waiting import wait_until
from tests.support.web.scraping import fetch, free_port, lint, scrape, unexplained, until_up


def test_a_scrape_shows_schedules_chores_and_jobs(shop: Shop, settings: Settings) -> None:
    shop.deploy(tick=qmodal.Period(seconds=1), rare=qmodal.Period(days=1))
    shop.client.run(shop.client.schedules.hold(shop.app_id, "rare", is_paused=True))
    port = free_port()
    about = {"environment": "main", "app": "shop"}
    with control(settings, "--metrics-port", str(port)):
        until_up(port)
        shop.wait("tick", 2)
        last = "qmodal_schedule_last_run_timestamp_seconds"
        chore = "qmodal_chore_last_success_timestamp_seconds"

        def is_complete() -> bool:
            found = scrape(port)
            return (
                bool(found.value(last, **about, function="tick"))
                and len([1 for name, _ in found.samples if name == chore]) == 6
            )

        wait_until(is_complete, what="all is there", seconds=40, pause=0.1)
        found = scrape(port)
        assert found.value("qmodal_schedule_paused", **about, function="rare") == 1
        assert found.value("qmodal_schedule_paused", **about, function="tick") == 0
        assert found.value(last, **about, function="rare") is None
        assert found.value("qmodal_schedule_overdue_seconds", **about, function="rare") == 0
        assert (found.value("qmodal_schedule_lateness_seconds_count") or 0) >= 2
        assert found.value("qmodal_control_jobs", queue="schedules", state="failed") == 0
        assert found.value("qmodal_control_first") == 1
        assert unexplained(found) == set()
        assert lint(port) == ""
        assert fetch(port, "/readyz")[0] == 200


def test_jobs_of_others_are_refused_and_the_next_ones_run(
    shop: Shop, settings: Settings, server: TestServer
) -> None:
    start = shop.client.keys.rq
    with redis.Redis.from_url(server.url) as plain, control(settings):
        wait_until(lambda: plain.smembers(f"{start}:workers"), what="it works", seconds=40)
        data = json.dumps(["os.abort", None, [], {}])
        jobs = {
            "foreign": {"data": data, "status": "queued", "origin": "schedules"},
            "odd": {"data": data, "status": "none of these", "timeout": "x"},
        }
        for name, fields in jobs.items():
            plain.hset(f"{start}:job:{name}", mapping=fields)
            plain.rpush(f"{start}:queue:schedules", name)
        wait_until(
            lambda: plain.hget(f"{start}:job:foreign", "status") == b"failed",
            what="it has failed",
            seconds=20,
        )
        shop.deploy(tick=qmodal.Period(seconds=1))
        shop.wait("tick", 1)
        plain.unlink(f"{start}:job:odd", f"{start}:queue:schedules:intermediate")
