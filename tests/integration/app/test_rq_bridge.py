"""Jobs that rq's own client puts in line, and rq's own worker takes, as calls of qmodal functions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rq
from redis import Redis
from rq.job import Job, JobStatus

import qmodal
import qmodal.contrib.rq as bridge
from qmodal.exception import InvalidError, TimeoutError
from qmodal.runner.run import ensure_server
from tests.support.servers import TestServer
from tests.support.stacks import own_home

app = qmodal.App("shop")


def half(number: int, *, digits: int = 2) -> float:
    if number < 0:
        raise ValueError(f"{number} is below 0")
    return round(number / 2, digits)


@pytest.fixture(scope="module", autouse=True)
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The app, deployed on a stack of its own."""
    app.function(name="half", serialized=True)(half)
    with ensure_server(own_home(tmp_path_factory)):
        app.deploy()
        yield
        app._registry.attach(None)


@pytest.fixture(params=["pickle", "json"])
def queue(server: TestServer, request: pytest.FixtureRequest) -> Iterator[rq.Queue]:
    """A queue of a team that uses rq, on a server of its own."""
    with Redis.from_url(server.url) as connection:
        yield rq.Queue("team", connection=connection, serializer=request.param)
        for key in connection.scan_iter("rq:*"):
            connection.unlink(key)


@pytest.fixture
def work(queue: rq.Queue, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Runs what is in line, as an rq worker with qmodal installed does."""
    monkeypatch.setitem(sys.modules, "setproctitle", None)

    def run() -> None:
        worker = rq.SimpleWorker([queue], connection=queue.connection, serializer=queue.serializer)
        worker.work(burst=True, logging_level="ERROR")

    return run


def test_a_job_that_waits_has_the_result_of_the_call(
    queue: rq.Queue, work: Callable[[], None]
) -> None:
    job = queue.enqueue(bridge.call, "shop", "half", 7, digits=1)
    work()
    found = Job.fetch(job.id, connection=queue.connection, serializer=queue.serializer)
    assert found.get_status() == JobStatus.FINISHED
    assert found.return_value() == 3.5


def test_what_the_function_raises_the_job_fails_with(
    queue: rq.Queue, work: Callable[[], None]
) -> None:
    job = queue.enqueue(bridge.call, "shop", "half", -1)
    work()
    assert job.get_status(refresh=True) == JobStatus.FAILED
    result = job.latest_result()
    assert result is not None
    assert "ValueError: -1 is below 0" in str(result.exc_string)


def test_a_job_that_does_not_wait_leads_to_its_call(
    queue: rq.Queue, work: Callable[[], None]
) -> None:
    job = queue.enqueue(bridge.spawn, "shop", "half", 9)
    work()
    assert bridge.call_of(job).object_id.startswith("fc-")
    assert bridge.result_of(job, timeout=30) == 4.5
    failing = queue.enqueue(bridge.spawn, "shop", "half", -2)
    work()
    with pytest.raises(ValueError, match="-2 is below 0"):
        bridge.result_of(failing, timeout=30)


def test_a_job_without_a_call_says_why(queue: rq.Queue, work: Callable[[], None]) -> None:
    waiting = queue.enqueue(bridge.spawn, "shop", "half", 9)
    with pytest.raises(TimeoutError, match="no rq worker"):
        bridge.call_of(waiting, timeout=1)
    failed = queue.enqueue(bridge.spawn, "shop", "no such function")
    work()
    with pytest.raises(InvalidError, match="has started no call"):
        bridge.call_of(failed, timeout=1)


def test_the_bridge_names_no_class_of_rq() -> None:
    # rq's client puts the functions in line by their path, which a worker imports.
    names: list[Any] = [getattr(bridge, name) for name in bridge.__all__]
    assert [each.__module__ for each in names] == ["qmodal.contrib.rq"] * len(names)
