"""What a worker has counted reaches the server once, whatever happens to the server meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from qmodal.client.client import Client
from qmodal.store.fleet import ContainerReport
from qmodal.store.history.statistics import Series
from qmodal_workers.agent.containers import Container
from qmodal_workers.agent.measuring.statistics import FunctionStatistics
from qmodal_workers.ipc.endpoints import Endpoints
from tests.support.servers import TestServer

SQUARE = Series("main", "shop", "square")


@pytest.fixture
def container() -> Iterator[Container]:
    """A container that has a record, and no process."""
    ends = Endpoints.create()
    report = ContainerReport(
        container="ta-a-1",
        pool="p",
        app="ap-1",
        function="square",
        label="square",
        number=1,
        state="ready",
        since=0,
    )
    made = Container(report=report, series=SQUARE, endpoints=ends)
    yield made
    ends.hand_over()
    ends.close()


def counts(client: Client) -> dict[str, int]:
    return client.run(client.statistics.read([SQUARE])).get(SQUARE, {})


def add(statistics: FunctionStatistics, client: Client) -> bool:
    async def added() -> bool:
        try:
            return await statistics.add()
        finally:
            await client.aclose()

    return asyncio.run(added())


def tally(container: Container, count: int) -> None:
    """The container counts so many inputs."""
    assert container.endpoints is not None
    container.endpoints.record.tally.ended("value", 10, 20, count)


def test_a_reading_takes_what_was_counted_since_the_one_before(
    client: Client, container: Container
) -> None:
    statistics = FunctionStatistics(client)
    statistics.began(container)
    for count in (3, 0, 4):
        tally(container, count)
        statistics.read(container)
        assert add(statistics, client)
    statistics.ended(container, "crashed")
    assert add(statistics, client)
    found = counts(client)
    assert (found["value"], found["starts"], found["end:crashed"]) == (7, 1, 1)
    assert found["run:sum"] == 7 * 20


def test_what_a_full_server_refuses_is_added_later(
    client: Client, container: Container, server: TestServer
) -> None:
    statistics = FunctionStatistics(client)
    statistics.note(container, "lost", 2)
    assert counts(client) == {}
    with server.full():
        assert not add(statistics, client)
        statistics.note(container, "lost", 3)
        assert not add(statistics, client)
    assert add(statistics, client)
    assert add(statistics, client)
    assert counts(client) == {"lost": 5}


def test_a_batch_whose_answer_was_lost_is_not_added_twice(
    client: Client, container: Container
) -> None:
    statistics = FunctionStatistics(client)
    statistics.note(container, "lost", 2)
    statistics._gather()
    (batch,) = statistics._batches
    assert client.run(client.statistics.add(statistics._name, 1, batch))
    statistics.note(container, "lost", 1)
    assert add(statistics, client)
    assert add(statistics, client)
    assert counts(client) == {"lost": 3}


def test_a_tally_that_user_code_has_changed_adds_nothing(
    client: Client, container: Container
) -> None:
    statistics = FunctionStatistics(client)
    statistics.began(container)
    assert container.endpoints is not None
    words = container.endpoints.record.tally._words
    for at in range(len(words)):
        words[at] = 2**63
    statistics.read(container)
    statistics.ended(container, "stopped")
    assert add(statistics, client)
    assert counts(client) == {"starts": 1, "end:stopped": 1}
